"""Every item's number as histograms under each other: what should go, before and after, and what was never trained."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from records.report import GroupName, ItemRow, MetricName, Report
from service.report_page.figures import number
from service.report_page.forest import HEAD, LEFT, RIGHT, SHARE, WIDTH, key_height, legend, picture, text, upright
from service.report_page.markup import Html, join, tag
from service.report_page.words import GROUPS, METRICS

BINS, BARS, GAP, FOOT = 25, 30.0, 10.0, 26.0
_SHOWN = (GroupName.FORGET, GroupName.FORGET_PARAPHRASES, GroupName.CONTROL)
_WHEN = {"before": "before", "after": "after", "reference": "never-trained reference"}


@dataclass(frozen=True)
class Column:
    """One number an item; `kind` is before, after or reference."""

    label: str
    kind: str
    values: tuple[float, ...]


def distribution(report: Report, metric: MetricName) -> Html | None:
    """Of a metric between 0 and 1 that every item has; None where the report holds no items."""
    columns = [one for name in _SHOWN if name in report.groups for one in _columns(report, name, metric)]
    if not columns:
        return None
    kinds = {one.kind for one in columns}
    key = [(kind, _WHEN[kind]) for kind in _WHEN if kind in kinds]
    top, each = key_height(key) + 4, HEAD + BARS + GAP
    low = top + each * len(columns)
    ticks = (text(f"{one:g}", SHARE.x(one), low + 18, _anchor(one)) for one in SHARE.ticks)
    grid = (upright("grid", SHARE.x(one), top, low) for one in SHARE.ticks)
    drawn = (_drawn(one, top + each * at) for at, one in enumerate(columns))
    title = f"{METRICS[metric].capitalize()} of every item"
    said = "; ".join(f"{one.label}: {_summary(one)}" for one in columns)
    return picture(f"items-{metric}", title, said, low + FOOT, (legend(key), *grid, *drawn, *ticks))


def counts(values: Sequence[float]) -> list[int]:
    """How many lie in each of BINS equal parts of 0 to 1; 1 belongs to the last."""
    found = [0] * BINS
    for value in values:
        found[min(BINS - 1, max(0, int(value * BINS)))] += 1
    return found


def _columns(report: Report, name: GroupName, metric: MetricName) -> Iterator[Column]:
    rows = report.groups[name].items
    for kind in _WHEN:
        values = _read(rows, kind, metric)
        if values:
            yield Column(f"{GROUPS[name]}, {kind}", kind, values)


def _read(rows: Sequence[ItemRow], kind: str, metric: MetricName) -> tuple[float, ...]:
    """Nothing unless every item has it: part of a set would look like another set."""
    numbers = [getattr(row, kind) for row in rows]
    return () if None in numbers else tuple(float(getattr(one, metric)) for one in numbers)


def _summary(one: Column) -> str:
    return f"{len(one.values)} item{'s' if len(one.values) > 1 else ''}, median {number(statistics.median(one.values))}"


def _drawn(one: Column, top: float) -> Html:
    base, found = top + HEAD + BARS, counts(one.values)
    width, tallest = (RIGHT - LEFT) / BINS, max(found)
    bars = (
        tag(
            "rect",
            x=f"{LEFT + at * width + 0.5:.1f}",
            y=f"{base - BARS * count / tallest:.1f}",
            width=f"{width - 1:.1f}",
            height=f"{BARS * count / tallest:.1f}",
            class_=f"bar {one.kind}",
        )
        for at, count in enumerate(found)
        if count
    )
    floor = tag("line", x1=LEFT, x2=RIGHT, y1=f"{base:.1f}", y2=f"{base:.1f}", class_="grid")
    words = (text(one.label, 0, top + HEAD - 6), text(_summary(one), WIDTH, top + HEAD - 6, "end"))
    return join((*words, floor, *bars))


def _anchor(tick: float) -> str:
    return "start" if tick == 0 else "end" if tick == 1 else "middle"
