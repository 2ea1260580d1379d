"""What is judged, drawn beside its margin: what is left, who can be told apart, what was lost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from records.report import Check, Estimate, Group, GroupName, MetricName, Report
from service.report_page import figures
from service.report_page.forest import SHARE, Axis, Mark, Row
from service.report_page.limits import membership
from service.report_page.markup import Html
from service.report_page.plots import figure
from service.report_page.words import SHORT, spoken

_POLICY_OF = {MetricName.TOKEN_ACCURACY: "exact_memorisation"}
_MARGINS = {
    GroupName.RETAIN: "retain_drop",
    GroupName.RETAIN_PARAPHRASES: "neighbours_drop",
    GroupName.NEIGHBOURS: "neighbours_drop",
    GroupName.UTILITY: "utility_drop",
}
_ACCEPTED = "accepted up to here"
_LOSS, _SINCE = "loss of ", " since the first version"
_RESIDUALS = Axis(-1.0, 1.5, (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5), line=0.0)
_SPANS = (0.05, 0.1, 0.25, 0.5, 1.0)


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
    return figure(title, "residuals", {"after": "residual and its interval", "limit": _ACCEPTED}, _RESIDUALS, rows)


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
    return figure(title, "membership", {"after": "AUC, after", "limit": "accepted between"}, axis, rows)


def losses(report: Report, policy: Mapping[str, Any], since_first: bool) -> Html | None:
    """As the gate judged them, margins dotted; of a report without checks, the changes of its groups."""
    judged = [one for one in report.checks if one.name.startswith(_LOSS)]
    found = [row for one in judged if one.name.endswith(_SINCE) == since_first for row in _judged_loss(one)]
    groups = report.since_first if since_first else report.groups
    rows = found if judged else list(_changes(groups, policy))
    title = f"Loss of right answers and of likeliest tokens,{_SINCE if since_first else ' by this job'}"
    key = {"after": "loss" if judged else "loss, 95 % interval", "limit": _ACCEPTED}
    return figure(title, "since-first" if since_first else "this-job", key, _around_zero(rows), rows)


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


def accepted(policy: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """The margin up to which the policy accepts; nothing where a policy of another time has none of that name."""
    margin = policy.get(name)
    found = margin.get("accept") if isinstance(margin, Mapping) else None
    return (float(found),) if isinstance(found, int | float) else ()


def _around_zero(rows: Sequence[Row]) -> Axis:
    ends = [abs(end) for row in rows for mark in row.marks for end in (mark.found.low, mark.found.high)]
    ends += [abs(limit) for row in rows for limit in row.limits]
    span = next((one for one in _SPANS if one >= max(ends, default=0.0)), 1.0)
    return Axis(-span, span, (-span, -span / 2, 0.0, span / 2, span), line=0.0)
