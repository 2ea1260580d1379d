"""A dot-and-range plot of one metric as inline SVG: a line a group, before above after, the never-trained level dashed.

Widths are user units; a character of the 13-unit font is taken as 7.6, wider than its mean, so that labels fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from records.report import Estimate, Group, GroupName, MetricName
from service.report_page.figures import number
from service.report_page.markup import Html, join, tag
from service.report_page.words import GROUPS, METRICS

WIDTH, LEFT, RIGHT = 760.0, 236.0, 622.0
TOP, ROW, BOTTOM = 44.0, 44.0, 28.0
CHARACTER, OFFSET = 7.6, 8.0
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_CONTROL_OF = {
    GroupName.FORGET_PARAPHRASES: GroupName.CONTROL_PARAPHRASES,
    GroupName.CONTROL_PARAPHRASES: GroupName.CONTROL_PARAPHRASES,
}


@dataclass(frozen=True)
class Place:
    """Where a group's line is."""

    name: GroupName
    y: float


def plot(groups: Mapping[GroupName, Group], metric: MetricName) -> Html:
    """Of a metric between 0 and 1; its numbers stand in the tables too."""
    names = [name for name in GROUPS if name in groups and metric in groups[name].metrics]
    places = [Place(name, TOP + ROW * (at + 0.5)) for at, name in enumerate(names)]
    height = TOP + ROW * len(places) + BOTTOM
    title = f"{METRICS[metric].capitalize()} before and after, with 95 % intervals"
    known = f"{metric}-title"
    return tag(
        "svg",
        tag("title", title, id=known),
        _key(),
        *(_tick(share, height) for share in TICKS),
        *(_line(place, groups, metric) for place in places),
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_labelledby=known,
    )


def level_of(name: GroupName, groups: Mapping[GroupName, Group], metric: MetricName) -> float | None:
    """What the candidate makes of never-trained rows asked in the same way; None without a control."""
    control = groups.get(_CONTROL_OF.get(name, GroupName.CONTROL)) or groups.get(GroupName.CONTROL)
    return None if control is None or metric not in control.metrics else control.metrics[metric].after.value


def x_of(value: float) -> float:
    """Outside 0 to 1 it stays at the edge."""
    return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, value))


def _key() -> Html:
    return join(
        (
            tag("circle", cx=LEFT, cy=16, r=5, class_="before"),
            _text("before", LEFT + 12, 20),
            tag("circle", cx=LEFT + 90, cy=16, r=5, class_="after"),
            _text("after", LEFT + 102, 20),
            tag("line", x1=LEFT + 166, x2=LEFT + 166, y1=8, y2=24, class_="level"),
            _text("never trained, after", LEFT + 176, 20),
        )
    )


def _tick(share: float, height: float) -> Html:
    x, low = x_of(share), height - BOTTOM
    mark = tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=TOP, y2=f"{low:.1f}", class_="grid")
    return join((mark, _text(f"{share:g}", x, low + 18, "middle")))


def _line(place: Place, groups: Mapping[GroupName, Group], metric: MetricName) -> Html:
    paired, level = groups[place.name].metrics[metric], level_of(place.name, groups, metric)
    pieces = [_text(GROUPS[place.name], LEFT - 14, place.y + 4, "end")]
    if level is not None:
        x, top, low = f"{x_of(level):.1f}", place.y - ROW / 2, place.y + ROW / 2
        pieces.append(tag("line", x1=x, x2=x, y1=top, y2=low, class_="level"))
    pieces.append(_range(paired.before, place.y - OFFSET, "before"))
    pieces.append(_range(paired.after, place.y + OFFSET, "after"))
    pieces.append(_text(f"{number(paired.before.value)} → {number(paired.after.value)}", WIDTH - 4, place.y + 4, "end"))
    return join(pieces)


def _range(found: Estimate, y: float, when: str) -> Html:
    low, high = f"{x_of(found.low):.1f}", f"{x_of(found.high):.1f}"
    span = tag("line", x1=low, x2=high, y1=y, y2=y, class_=f"range {when}")
    return join((span, tag("circle", cx=f"{x_of(found.value):.1f}", cy=y, r=5, class_=when)))


def _text(words: str, x: float, y: float, anchor: str = "start") -> Html:
    return tag("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
