"""The parts of the page that are numbers of the report: plots, residuals, what else changed, every metric."""

import math
from collections.abc import Iterator

from records.report import EarlierRequest, Group, GroupName, MetricName, Report
from service.report_page import figures, words
from service.report_page.markup import Html, join, table, tag
from service.report_page.plots import plot

PLOTTED = (MetricName.TOKEN_PROBABILITY, MetricName.EXACT)


def plots(report: Report) -> Html:
    """Of the metrics that every group has and that lie between 0 and 1."""
    return join(tag("figure", caption(metric), plot(report.groups, metric)) for metric in PLOTTED if report.groups)


def caption(metric: MetricName) -> Html:
    return tag("figcaption", f"{words.METRICS[metric].capitalize()}, with 95 % intervals")


def groups(report: Report) -> Html:
    """Every metric of every group, as mean or share [low, high]."""
    return join(_group(name, report.groups[name]) for name in words.GROUPS if name in report.groups)


def residuals(report: Report) -> Html:
    rows = [
        (
            f"{words.METRICS[one.metric]}, {words.GROUPS[one.group]}",
            "all" if one.split == "all" else f"{one.split} only",
            str(one.n_items),
            str(one.n_subjects),
            figures.estimate(one.residual),
        )
        for one in report.residuals
    ]
    if not rows:
        return tag("p", "None could be taken: without a control, or without a gap to it before, there is no residual.")
    caption = "What is left of the gap to the control: 1 untouched, 0 as if never trained [95 % interval]"
    return table(caption, ("", "phrasings", "items", "subjects", "residual"), rows)


def utility(report: Report) -> Html:
    rows = list(_utility(report))
    if not rows:
        return tag("p", "Nothing but the forget set and the control was asked.")
    columns = ("", "exact answers, change", "token probability, change", "perplexity, after / before")
    return table("What happened to everything else [95 % interval]", columns, rows)


def earlier(report: Report) -> Html:
    if not report.earlier:
        return tag("p", "No earlier request was asked again.")
    columns = ("request", "items", "token probability", "extraction strength", "exact", "greedy", "in samples")
    return table("Earlier requests: before → after", columns, (_earlier(one) for one in report.earlier))


def _group(name: GroupName, group: Group) -> Html:
    caption = f"{words.GROUPS[name]}: {group.n_items} items of {group.n_subjects} subjects"
    rows = (
        (words.METRICS[metric], *(figures.estimate(one) for one in (paired.before, paired.after, paired.change)))
        for metric in words.METRICS
        if (paired := group.metrics.get(metric))
    )
    return table(caption, ("", "before", "after", "change"), rows)


def _utility(report: Report) -> Iterator[tuple[str, ...]]:
    for name in (GroupName.RETAIN, GroupName.RETAIN_PARAPHRASES, GroupName.NEIGHBOURS, GroupName.UTILITY):
        if name in report.groups:
            metrics = report.groups[name].metrics
            exact, probability = metrics[MetricName.EXACT].change, metrics[MetricName.TOKEN_PROBABILITY].change
            perplexity = math.exp(min(metrics[MetricName.NLL].change.value, 50.0))
            shown = (figures.estimate(exact), figures.estimate(probability), figures.number(perplexity))
            yield words.GROUPS[name], *shown


def _earlier(one: EarlierRequest) -> tuple[str, ...]:
    before, after = one.before, one.after
    means = (
        (before.token_probability, after.token_probability),
        (before.extraction_strength, after.extraction_strength),
    )
    counts = (
        (before.exact, after.exact),
        (before.greedy_hits, after.greedy_hits),
        (before.sampled_items, after.sampled_items),
    )
    shown = (f"{figures.number(early)} → {figures.number(late)}" for early, late in means)
    return one.request_id, str(one.n_items), *shown, *(f"{early} → {late}" for early, late in counts)
