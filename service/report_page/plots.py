"""What is drawn of a report; every number stands in a table or a sentence of the page as well."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from records.report import Attack, Check, EarlierRequest, Estimate, Group, GroupName, MetricName, Report
from service.report_page import figures
from service.report_page.forest import SHARE, Axis, Mark, Row, forest
from service.report_page.limits import membership
from service.report_page.markup import Html, tag
from service.report_page.words import GROUPS, METRICS, SHORT, attack, spoken

_CONTROL_OF = {
    GroupName.FORGET_PARAPHRASES: GroupName.CONTROL_PARAPHRASES,
    GroupName.CONTROL_PARAPHRASES: GroupName.CONTROL_PARAPHRASES,
}
_POLICY_OF = {MetricName.TOKEN_ACCURACY: "exact_memorisation"}
_MARGINS = {
    GroupName.RETAIN: "retain_drop",
    GroupName.RETAIN_PARAPHRASES: "neighbours_drop",
    GroupName.NEIGHBOURS: "neighbours_drop",
    GroupName.UTILITY: "utility_drop",
}
_LOSS, _SINCE = "loss of ", " since the first version"
_RESIDUALS = Axis(-1.0, 1.5, (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5), line=0.0)
_MOVED = {"before": "before", "after": "after", "level": "control, after"}
_ACCEPTED = "accepted up to here"
_OF_KINDS = {
    "relearning": {"before": "candidate", "after": "trained again", "level": "control, trained again"},
    "": {"before": "base version", "after": "candidate", "level": "control, candidate"},
}
_SPANS = (0.05, 0.1, 0.25, 0.5, 1.0)


def before_after(groups: Mapping[GroupName, Group], metric: MetricName) -> Html | None:
    """Of a metric between 0 and 1; the control's level after stands beside what is held against it."""
    rows = [
        Row(GROUPS[name], _moved(found.before, found.after), _pair(found.before, found.after), level)
        for name in GROUPS
        if name in groups and (found := groups[name].metrics.get(metric))
        for level in (level_of(name, groups, metric),)
    ]
    title = f"{METRICS[metric].capitalize()} before and after, with 95 % intervals"
    return _figure(title, f"groups-{metric}", _MOVED, SHARE, rows)


def level_of(name: GroupName, groups: Mapping[GroupName, Group], metric: MetricName) -> float | None:
    """What the candidate makes of never-trained rows asked in the same way; None without a control."""
    control = groups.get(_CONTROL_OF.get(name, GroupName.CONTROL)) or groups.get(GroupName.CONTROL)
    return None if control is None or metric not in control.metrics else control.metrics[metric].after.value


def residuals(report: Report, policy: Mapping[str, Any]) -> Html | None:
    rows = [
        Row(
            f"{SHORT[one.metric]}, {'in other words' if 'paraphrases' in one.group else 'as asked'}",
            figures.estimate(one.residual),
            (Mark(one.residual, "after"),),
            limits=accepted(policy, _POLICY_OF.get(one.metric, one.metric)),
        )
        for one in report.residuals
        if one.split != "dev"
    ]
    title = "What is left: 1 as before, 0 as if never trained, below 0 driven past that"
    return _figure(title, "residuals", {"after": "residual, 90 % interval", "limit": _ACCEPTED}, _RESIDUALS, rows)


def told_apart(report: Report, policy: Mapping[str, Any]) -> Html | None:
    """The chance to tell a forgotten row from a never-trained one, by each score."""
    rows = []
    for one in membership(report):
        value = one.value or 0.0
        low, high = (value if end is None else end for end in (one.low, one.high))
        words = figures.number(value) if low == high else figures.interval(value, low, high)
        limits = tuple(0.5 + sign * end for end in accepted(policy, "membership") for sign in (-1, 1))
        mark = Mark(Estimate(value=value, low=low, high=high), "after")
        rows.append(Row(spoken(one.name), words, (mark,), limits=limits))
    axis = Axis(0.0, 1.0, SHARE.ticks, line=0.5)
    title = "AUC of membership scores: 0.5 nobody can tell, above still known, below too silent"
    return _figure(title, "membership", {"after": "AUC, after", "limit": "accepted between"}, axis, rows)


def losses(report: Report, policy: Mapping[str, Any], since_first: bool) -> Html | None:
    """As the gate judged them, margins dotted; of a report without checks, the changes of its groups."""
    judged = [one for one in report.checks if one.name.startswith(_LOSS)]
    found = [row for one in judged if one.name.endswith(_SINCE) == since_first for row in _judged_loss(one)]
    groups = report.since_first if since_first else report.groups
    rows = found if judged else list(_changes(groups, policy))
    title = f"Loss of right answers and of likeliest tokens,{_SINCE if since_first else ' by this job'}"
    key = {"after": "loss" if judged else "loss, 95 % interval", "limit": _ACCEPTED}
    return _figure(title, "since-first" if since_first else "this-job", key, _around_zero(rows), rows)


def _judged_loss(one: Check) -> Iterator[Row]:
    if one.value is None or one.low is None or one.high is None:
        return
    found = Estimate(value=one.value, low=one.low, high=one.high)
    label = spoken(one.name.removeprefix(_LOSS).removesuffix(_SINCE))
    limits = () if one.threshold is None else (one.threshold,)
    yield Row(label, figures.estimate(found), (Mark(found, "after"),), limits=limits)


def _changes(groups: Mapping[GroupName, Group], policy: Mapping[str, Any]) -> Iterator[Row]:
    for name, margin in _MARGINS.items():
        for metric, what in ((MetricName.EXACT, "exact answers"), (MetricName.TOKEN_ACCURACY, "likeliest tokens")):
            if name in groups and (paired := groups[name].metrics.get(metric)):
                change = paired.change
                lost = Estimate(value=-change.value, low=-change.high, high=-change.low)
                limits = accepted(policy, margin)
                yield Row(f"{what}, {spoken(name)}", figures.estimate(lost), (Mark(lost, "after"),), limits=limits)


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
    return _figure(title, f"{kind}-{metric}", _OF_KINDS.get(kind, _OF_KINDS[""]), SHARE, rows)


def earlier(requests: Sequence[EarlierRequest]) -> Html | None:
    rows = [
        Row(f"{one.request_id}, {one.n_items} items", _moved(was, now), _pair(was, now))
        for one in requests
        for was, now in ((_point(one.before.extraction_strength), _point(one.after.extraction_strength)),)
    ]
    return _figure("Extraction strength of earlier requests' rows", "earlier", _MOVED, SHARE, rows)


def accepted(policy: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """The margin up to which the policy accepts; nothing where a policy of another time has none of that name."""
    margin = policy.get(name)
    found = margin.get("accept") if isinstance(margin, Mapping) else None
    return (float(found),) if isinstance(found, int | float) else ()


def _figure(title: str, known: str, words: Mapping[str, str], axis: Axis, rows: Sequence[Row]) -> Html | None:
    if not rows:
        return None
    drawn = {mark.kind for row in rows for mark in row.marks}
    drawn |= {"level"} if any(row.level is not None for row in rows) else set()
    drawn |= {"limit"} if any(row.limits for row in rows) else set()
    key = [(kind, said) for kind, said in words.items() if kind in drawn]
    return tag("figure", tag("figcaption", title), forest(known, title, key, axis, rows))


def _around_zero(rows: Sequence[Row]) -> Axis:
    ends = [abs(end) for row in rows for mark in row.marks for end in (mark.found.low, mark.found.high)]
    ends += [abs(limit) for row in rows for limit in row.limits]
    span = next((one for one in _SPANS if one >= max(ends, default=0.0)), 1.0)
    return Axis(-span, span, (-span, -span / 2, 0.0, span / 2, span), line=0.0)


def _pair(before: Estimate, after: Estimate) -> tuple[Mark, Mark]:
    return Mark(before, "before"), Mark(after, "after")


def _moved(before: Estimate, after: Estimate) -> str:
    return figures.arrow(before.value, after.value)


def _point(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)
