"""What was measured, drawn before and after; every number stands in a table or a sentence of the page as well."""

from collections.abc import Mapping, Sequence

from records.report import Attack, EarlierRequest, Estimate, Group, GroupName, MetricName
from service.report_page import figures
from service.report_page.forest import SHARE, Axis, Mark, Row, forest
from service.report_page.markup import Html, tag
from service.report_page.words import GROUPS, METRICS, attack

_CONTROL_OF = {
    GroupName.FORGET_PARAPHRASES: GroupName.CONTROL_PARAPHRASES,
    GroupName.CONTROL_PARAPHRASES: GroupName.CONTROL_PARAPHRASES,
}
_MOVED = {"before": "before", "after": "after", "level": "control, after"}
_OF_KINDS = {
    "relearning": {"before": "candidate", "after": "trained again", "level": "control, trained again"},
    "": {"before": "base version", "after": "candidate", "level": "control, candidate"},
}


def before_after(groups: Mapping[GroupName, Group], metric: MetricName) -> Html | None:
    """Of a metric between 0 and 1; the control's level after stands beside what is held against it."""
    rows = [
        Row(GROUPS[name], _moved(found.before, found.after), _pair(found.before, found.after), level)
        for name in GROUPS
        if name in groups and (found := groups[name].metrics.get(metric))
        for level in (level_of(name, groups, metric),)
    ]
    title = f"{METRICS[metric].capitalize()} before and after, with 95 % intervals"
    return figure(title, f"groups-{metric}", _MOVED, SHARE, rows)


def level_of(name: GroupName, groups: Mapping[GroupName, Group], metric: MetricName) -> float | None:
    """What the candidate makes of never-trained rows asked in the same way; None without a control."""
    control = groups.get(_CONTROL_OF.get(name, GroupName.CONTROL)) or groups.get(GroupName.CONTROL)
    return None if control is None or metric not in control.metrics else control.metrics[metric].after.value


def attacked(attacks: Sequence[Attack], kind: str, metric: MetricName) -> Html | None:
    """What should go under each attack of a kind; in relearning, before is the candidate."""
    rows = [
        Row(attack(one.name), _moved(found.before, found.after), _pair(found.before, found.after), level)
        for one in attacks
        if one.kind == kind and GroupName.FORGET in one.groups
        if (found := one.groups[GroupName.FORGET].metrics.get(metric))
        for level in (level_of(GroupName.FORGET, one.groups, metric),)
    ]
    title = f"{METRICS[metric].capitalize()} of what should go, under attack"
    return figure(title, f"{kind}-{metric}", _OF_KINDS.get(kind, _OF_KINDS[""]), SHARE, rows)


def earlier(requests: Sequence[EarlierRequest]) -> Html | None:
    rows = [
        Row(f"{one.request_id}, {one.n_items} items", _moved(was, now), _pair(was, now))
        for one in requests
        for was, now in ((_point(one.before.extraction_strength), _point(one.after.extraction_strength)),)
    ]
    return figure("Extraction strength of earlier requests' rows", "earlier", _MOVED, SHARE, rows)


def figure(title: str, known: str, words: Mapping[str, str], axis: Axis, rows: Sequence[Row]) -> Html | None:
    if not rows:
        return None
    drawn = {mark.kind for row in rows for mark in row.marks}
    drawn |= {"level"} if any(row.level is not None for row in rows) else set()
    drawn |= {"limit"} if any(row.limits for row in rows) else set()
    key = [(kind, said) for kind, said in words.items() if kind in drawn]
    return tag("figure", tag("figcaption", title), forest(known, title, key, axis, rows))


def _pair(before: Estimate, after: Estimate) -> tuple[Mark, Mark]:
    return Mark(before, "before"), Mark(after, "after")


def _moved(before: Estimate, after: Estimate) -> str:
    return figures.arrow(before.value, after.value)


def _point(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)
