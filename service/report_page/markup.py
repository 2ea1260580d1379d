"""HTML in which text cannot become markup: what is not `Html` is escaped when it is put into an element."""

from collections.abc import Iterable, Sequence
from html import escape

_VOID = frozenset({"meta", "line", "circle", "path", "rect"})


class Html(str):
    """Markup that is already safe: made by `tag` and `join` from escaped pieces, and from constants of this package."""

    __slots__ = ()


def tag(name: str, /, *content: str, **attributes: str | float) -> Html:
    """One element. `class_` is written `class`, `stroke_width` is written `stroke-width`; every value is escaped."""
    written = "".join(_attribute(key, str(value)) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{join(content)}</{name}>")


def join(pieces: Iterable[str]) -> Html:
    """Pieces one after the other, text among them escaped."""
    return Html("".join(piece if isinstance(piece, Html) else escape(piece) for piece in pieces))


def bullets(sentences: Iterable[str]) -> Html:
    return tag("ul", *(tag("li", sentence) for sentence in sentences))


def facts(rows: Iterable[tuple[str, str]]) -> Html:
    """Names and values, as a definition list."""
    return tag("dl", *(join((tag("dt", name), tag("dd", value))) for name, value in rows))


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """The first cell of a row is its header. It scrolls inside its box where the page is too narrow."""
    head = tag("thead", tag("tr", *(tag("th", column, scope="col") for column in columns)))
    body = tag("tbody", *(_row(row) for row in rows))
    whole = tag("table", tag("caption", caption), head, body)
    return tag("div", whole, class_="wide", role="region", tabindex="0", aria_label=caption)


def _attribute(key: str, value: str) -> str:
    return f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'


def _row(cells: Sequence[str]) -> Html:
    return tag("tr", tag("th", cells[0], scope="row"), *(tag("td", cell) for cell in cells[1:]))
