"""The rules that a program can count. `make check` runs it: `python -m tests.house_rules`.

- files and functions stay short (`# long: <reason>` on the def line excuses a function)
- the tenant filter is written in one place
- SQL is built in records/ only
- nothing logs with print outside the command line; nothing imports pickle or loads with torch.load
- every migration can be undone, and no new column must be filled in every row while others wait
- no secret is in a file that git keeps (tests/secrets_left.py)
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import secrets_left

CEILING_LINES = 400
TEST_CEILING_LINES = 500
FUNCTION_LINES = 40
PACKAGES = ("records/", "service/", "workers/", "lethe/")


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "*.py"], capture_output=True, text=True, check=True)
    broken = [row for name in listed.stdout.split() if Path(name).exists() for row in broken_rules(name)]
    broken += secrets_left.left()
    sys.stdout.write(("\n".join(broken) or "house rules: all kept") + "\n")
    return 1 if broken else 0


def broken_rules(name: str) -> Iterator[str]:
    """Each broken rule of one file, as `file:line what to do`."""
    text = Path(name).read_text(encoding="utf-8")
    lines = text.splitlines()
    ceiling = TEST_CEILING_LINES if name.startswith("tests/") else CEILING_LINES
    if len(lines) > ceiling:
        yield f"{name}: {len(lines)} lines, ceiling {ceiling}: split it by what changes together"
    tree = ast.parse(text, name)
    if not name.startswith(("tests/", "migrations/")):
        yield from _long_functions(name, tree, lines)
    if name.startswith(PACKAGES):
        yield from _queries(name, tree)
        yield from _unsafe_loading(name, tree)
    if name.startswith("migrations/versions/"):
        yield from _one_way_migration(name, tree)
        yield from _columns_to_fill(name, tree)


def _long_functions(name: str, tree: ast.AST, lines: list[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > FUNCTION_LINES and "# long:" not in lines[node.lineno - 1]:
                yield f"{name}:{node.lineno} {node.name} has {length} lines: split it, or say why on the def line"


def _queries(name: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and name != "records/tenants.py":
            sides = [node.left, *node.comparators]
            if any(isinstance(s, ast.Attribute) and s.attr == "tenant_id" and _names_a_row(s) for s in sides):
                yield f"{name}:{node.lineno} write tenant filters with records.tenants.visible or find"
        if isinstance(node, ast.Import | ast.ImportFrom) and not name.startswith("records/"):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(m == "sqlalchemy" or (m.startswith("sqlalchemy.") and m != "sqlalchemy.orm") for m in modules):
                yield f"{name}:{node.lineno} build SQL in records/ (only Session may be imported elsewhere)"


def _names_a_row(node: ast.Attribute) -> bool:
    owner = node.value
    return isinstance(owner, ast.Name) and (owner.id.endswith("Row") or owner.id == "row")


def _unsafe_loading(name: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(m.split(".")[0] in {"pickle", "dill", "joblib", "shelve", "marshal"} for m in modules):
                yield f"{name}:{node.lineno} safetensors only: no pickle"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "eval", "exec"}:
            yield f"{name}:{node.lineno} {ast.unparse(node.func)} runs foreign code"
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and ast.unparse(node.value) != "False":
            yield f"{name}:{node.value.lineno} trust_remote_code must be False"


def _one_way_migration(name: str, tree: ast.Module) -> Iterator[str]:
    down = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "downgrade"), None)
    if down is None or all(isinstance(n, ast.Pass) for n in down.body):
        yield f"{name} downgrade() undoes nothing"


def _columns_to_fill(name: str, tree: ast.Module) -> Iterator[str]:
    """Old rows have no value for it and old processes give none: on a table with rows it fails, or keeps others out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".add_column"):
            words = ast.unparse(node)
            if "nullable=False" in words and "server_default=" not in words:
                yield f"{name}:{node.lineno} a new column is nullable, or has a server_default"


if __name__ == "__main__":
    sys.exit(main())
