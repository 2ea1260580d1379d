"""Reading a chat template before anybody renders it: Lethe itself never does, whoever downloads the version may.

A template is a Jinja program. Renderers run it in a sandbox; what only makes sense as a way out of one is refused here:
names with leading underscores, the `attr` filter, other templates, and numbers that only fill memory. What it does not
see, such as a name that is put together while rendering, is left to the sandbox.
"""

import re
from collections.abc import Iterator

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

MOST_BYTES = 256 * 1024
MOST_NUMBER = 10_000_000
_DUNDER = re.compile(r"__\w")
_ELSEWHERE = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends)


class _Generation(Extension):
    """`{% generation %}`: how transformers marks what the assistant said."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own way to name them

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def problem_of(source: str) -> str | None:
    """Why this template is not taken in, as the end of a sentence; None if it is."""
    if len(source.encode()) > MOST_BYTES:
        return f"is larger than {MOST_BYTES} bytes"
    environment = Environment(extensions=[_Generation, "jinja2.ext.loopcontrols"])  # noqa: S701 - parses, never renders
    try:
        tree = environment.parse(source)
        return next(_problems(tree), None)
    except (TemplateError, RecursionError):
        return "is not a Jinja template"


def _problems(tree: nodes.Node) -> Iterator[str]:
    for node in tree.find_all((nodes.Expr, nodes.Stmt, nodes.Keyword)):
        if isinstance(node, _ELSEWHERE):
            yield "uses another template"
        if isinstance(node, nodes.Filter) and node.name == "attr":
            yield "uses the filter attr"
        if isinstance(node, nodes.Pow) or (isinstance(node, nodes.Const) and _is_huge(node.value)):
            yield "computes with huge numbers"
        if any(_DUNDER.search(text) for text in _texts(node)) or _is_private(node):
            yield "reaches for names that begin with an underscore"


def _is_private(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getattr):
        return node.attr.startswith("_")
    return isinstance(node, nodes.Getitem) and (_folded(node.arg) or "").startswith("_")


def _texts(node: nodes.Node) -> Iterator[str]:
    """The constant strings of an expression, put together where the template puts them together."""
    if isinstance(node, nodes.Name):
        yield node.name
    if isinstance(node, nodes.Expr):
        yield _folded(node) or ""


def _folded(node: nodes.Node) -> str | None:
    """The string that constants joined by + or ~ make; None for anything else. Evaluates nothing but that."""
    if isinstance(node, nodes.Const):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, nodes.Add):
        parts = [_folded(node.left), _folded(node.right)]
    elif isinstance(node, nodes.Concat):
        parts = [_folded(part) for part in node.nodes]
    else:
        return None
    return None if None in parts else "".join(map(str, parts))


def _is_huge(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) > MOST_NUMBER
