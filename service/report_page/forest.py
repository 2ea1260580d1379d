"""Values with their intervals, a row each, on one axis: inline SVG that is legible at the width of a telephone.

Widths are user units. The words of a row stand above its marks, its numbers at the right end of the same line; a
character of the 15-unit font is taken as 8.6, wider than its mean, so that nothing covers anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from records.report import Estimate
from service.report_page.markup import Html, join, tag

WIDTH, LEFT, RIGHT = 520.0, 12.0, 508.0
CHARACTER, LINE = 8.6, 20.0
HEAD, LANE, GAP, FOOT = 22.0, 16.0, 12.0, 26.0


@dataclass(frozen=True)
class Mark:
    """One value; `kind` is before, after or reference, and says its shape and colour."""

    found: Estimate
    kind: str


@dataclass(frozen=True)
class Row:
    """`level` is drawn dashed; `limits` are what the row is judged by, drawn dotted."""

    label: str
    text: str
    marks: tuple[Mark, ...]
    level: float | None = None
    limits: tuple[float, ...] = ()

    @property
    def height(self) -> float:
        return HEAD + LANE * len(self.marks) + GAP


@dataclass(frozen=True)
class Axis:
    """`line` is where nothing would be left, lost or told."""

    low: float
    high: float
    ticks: tuple[float, ...]
    line: float | None = None

    def x(self, value: float) -> float:
        """Outside the axis it stays at the edge."""
        share = (value - self.low) / (self.high - self.low)
        return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, share))


SHARE = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))


def forest(known: str, title: str, key: Sequence[tuple[str, str]], axis: Axis, rows: Sequence[Row]) -> Html:
    """`known` is the picture's id on the page; `key` are (kind, words) of what is drawn."""
    top = key_height(key) + 4
    low = top + sum(row.height for row in rows)
    pieces = [_tick(axis, tick, top, low) for tick in axis.ticks]
    for at, row in enumerate(rows):
        pieces.append(_row(row, axis, top + sum(before.height for before in rows[:at])))
    said = "; ".join(f"{row.label}: {row.text}" for row in rows)
    return picture(known, title, said, low + FOOT, (legend(key), *pieces))


def picture(known: str, title: str, said: str, height: float, pieces: Sequence[Html]) -> Html:
    """`said` are the numbers in words, for who cannot see them."""
    return tag(
        "svg",
        tag("title", title, id=f"{known}-title"),
        tag("desc", said, id=f"{known}-desc"),
        *pieces,
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_labelledby=f"{known}-title",
        aria_describedby=f"{known}-desc",
    )


def legend(key: Sequence[tuple[str, str]]) -> Html:
    pieces = []
    for (kind, words), (x, y) in zip(key, _places(key), strict=True):
        pieces += [_sample(kind, x + 6, y - 5), text(words, x + 16, y)]
    return join(pieces)


def key_height(key: Sequence[tuple[str, str]]) -> float:
    return max((y for _, y in _places(key)), default=0.0) + 8


def text(words: str, x: float, y: float, anchor: str = "start") -> Html:
    return tag("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def upright(kind: str, x: float, top: float, low: float) -> Html:
    return tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=f"{top:.1f}", y2=f"{low:.1f}", class_=kind)


def _places(key: Sequence[tuple[str, str]]) -> list[tuple[float, float]]:
    """Where each entry starts; one that would leave the picture goes to the next line."""
    places, x, y = [], 0.0, LINE - 4
    for _, words in key:
        width = 16 + CHARACTER * len(words) + 12
        if x and x + width > WIDTH:
            x, y = 0.0, y + LINE
        places.append((x, y))
        x += width
    return places


def _sample(kind: str, x: float, y: float) -> Html:
    return upright(kind, x, y - 7, y + 7) if kind in {"level", "limit", "none"} else _dot(kind, x, y)


def _tick(axis: Axis, value: float, top: float, low: float) -> Html:
    """The outermost labels stay inside."""
    x = axis.x(value)
    anchor = "start" if x <= LEFT else "end" if x >= RIGHT else "middle"
    at = 0.0 if anchor == "start" else WIDTH if anchor == "end" else x
    kind = "none" if value == axis.line else "grid"
    return join((upright(kind, x, top, low), text(f"{value:g}", at, low + 18, anchor)))


def _row(row: Row, axis: Axis, top: float) -> Html:
    low = top + HEAD + LANE * len(row.marks)
    pieces = [text(row.label, 0, top + HEAD - 6), text(row.text, WIDTH, top + HEAD - 6, "end")]
    pieces += [upright("limit", axis.x(one), top + HEAD, low) for one in row.limits]
    if row.level is not None:
        pieces.append(upright("level", axis.x(row.level), top + HEAD, low))
    pieces += [_mark(mark, axis, top + HEAD + LANE * (at + 0.5)) for at, mark in enumerate(row.marks)]
    return join(pieces)


def _mark(mark: Mark, axis: Axis, y: float) -> Html:
    low, high = (f"{axis.x(end):.1f}" for end in (mark.found.low, mark.found.high))
    span = tag("line", x1=low, x2=high, y1=f"{y:.1f}", y2=f"{y:.1f}", class_=f"range {mark.kind}")
    return join((span, _dot(mark.kind, axis.x(mark.found.value), y)))


def _dot(kind: str, x: float, y: float) -> Html:
    if kind == "reference":
        return tag("rect", x=f"{x - 4.5:.1f}", y=f"{y - 4.5:.1f}", width=9, height=9, class_=kind)
    return tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=5, class_=kind)
