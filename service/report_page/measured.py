"""The parts of the page that are numbers of the report, as plots and as tables."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from records.report import Attack, EarlierRequest, Group, GroupName, MetricName, Report
from service.report_page import figures, judged, plots, words
from service.report_page.distributions import distribution
from service.report_page.markup import Html, bullets, join, table, tag

PLOTTED = (MetricName.TOKEN_PROBABILITY, MetricName.EXACT)
DISTRIBUTED = (MetricName.TOKEN_PROBABILITY, MetricName.EXTRACTION_STRENGTH)
_STAYING = (GroupName.RETAIN, GroupName.RETAIN_PARAPHRASES, GroupName.NEIGHBOURS, GroupName.UTILITY)


def before_after(report: Report) -> Html:
    """Means of every group, then every item of what should go and of the control."""
    means = [plots.before_after(report.groups, metric) for metric in PLOTTED]
    items = [
        tag("figure", tag("figcaption", f"{words.METRICS[metric].capitalize()}: how many items lie where"), drawn)
        for metric in DISTRIBUTED
        if (drawn := distribution(report, metric))
    ]
    return side_by_side((*means, *items))


def residuals(report: Report, policy: Mapping[str, Any]) -> Html:
    rows = [
        (
            f"{words.METRICS[one.metric]}, {words.GROUPS[one.group]}",
            "all" if one.split == "all" else f"{one.split} only",
            str(one.n_items),
            str(one.n_subjects),
            figures.estimate(one.residual),
            "not recorded" if one.calibrated is None else "reference, by item" if one.calibrated else "control's mean",
        )
        for one in report.residuals
    ]
    if not rows:
        return tag("p", "None could be taken: without a control, or without a gap to it before, there is no residual.")
    level = 95 if report.schema_version == 1 else 90
    caption = f"What is left of the gap to the control: 1 untouched, 0 as if never trained [{level} % interval]"
    columns = ("", "phrasings", "items", "subjects", "residual", "held against")
    return join((side_by_side([judged.residuals(report, policy)]), table(caption, columns, rows)))


def membership(report: Report, policy: Mapping[str, Any]) -> Html:
    drawn = judged.told_apart(report, policy)
    return side_by_side([drawn]) if drawn else tag("p", "Not measured: see what was not tested.")


def everything_else(report: Report, policy: Mapping[str, Any]) -> Html:
    if not any(name in report.groups for name in _STAYING):
        return tag("p", "Nothing but the forget set and the control was asked.")
    drawn = (judged.losses(report, policy, since_first=False), judged.losses(report, policy, since_first=True))
    columns = ("", "exact answers, change", "token probability, change", "perplexity, after / before")
    pieces = [side_by_side(drawn), table("By this job [95 % interval]", columns, _losses(report.groups))]
    if report.since_first:
        pieces.append(table("Since the first version [95 % interval]", columns, _losses(report.since_first)))
    return join(pieces)


def attacks(report: Report) -> Html:
    if not report.attacks:
        return tag("p", "None was run: what these numbers say holds for the weights and questions as they were asked.")
    return join(_attacks(report.attacks, kind) for kind in words.KINDS if any(a.kind == kind for a in report.attacks))


def earlier(report: Report) -> Html:
    if not report.earlier:
        return join((tag("p", "No earlier request was asked again."), _hashed(report)))
    columns = (
        "request",
        "items",
        "token probability",
        "extraction strength",
        "when forgotten",
        "exact",
        "greedy",
        "in samples",
    )
    rows = table("Earlier requests: before → after", columns, map(_earlier, report.earlier))
    return join((side_by_side([plots.earlier(report.earlier)]), rows, _hashed(report)))


def groups(report: Report) -> Html:
    """Every metric of every group, as mean or share [low, high]."""
    return join(_group(name, report.groups[name]) for name in words.GROUPS if name in report.groups)


def side_by_side(drawn: Iterable[Html | None]) -> Html:
    return tag("div", *(one for one in drawn if one is not None), class_="figures")


def _attacks(found: Iterable[Attack], kind: str) -> Html:
    of = [one for one in found if one.kind == kind]
    metrics = (MetricName.TOKEN_PROBABILITY, MetricName.EXTRACTION_STRENGTH)
    notes = [f"{words.attack(one.name)}: {note}" for one in of for note in one.notes]
    columns = ("attack", "set", "items", "answers given before", "after", "extraction strength")
    title = "Reproduced exactly or answered greedily; before → after as above"
    return join(
        (
            tag("h3", words.KINDS[kind]),
            side_by_side(plots.attacked(of, kind, metric) for metric in metrics),
            table(title, columns, (row for one in of for row in _attack(one))),
            bullets(map(figures.sentence, notes)) if notes else "",
        )
    )


def _attack(one: Attack) -> Iterator[tuple[str, ...]]:
    if not one.groups:
        yield words.attack(one.name), "could not be measured", "", "", "", ""
    for name in words.GROUPS:
        group = one.groups.get(name)
        if group is not None:
            strength = group.metrics.get(MetricName.EXTRACTION_STRENGTH)
            moved = figures.arrow(strength.before.value, strength.after.value) if strength else ""
            hits = (_hits(group, "before"), _hits(group, "after"))
            yield words.attack(one.name), words.GROUPS[name], str(group.n_items), *map(str, hits), moved


def _hits(group: Group, when: str) -> int:
    numbers = (getattr(row, when) for row in group.items)
    return sum(bool(one.greedy_extracted) or one.exact for one in numbers)


def _group(name: GroupName, group: Group) -> Html:
    caption = f"{words.GROUPS[name]}: {words.counted(group)}"
    rows = (
        (words.METRICS[metric], *(figures.estimate(one) for one in (paired.before, paired.after, paired.change)))
        for metric in words.METRICS
        if (paired := group.metrics.get(metric))
    )
    return table(caption, ("", "before", "after", "change"), rows)


def _losses(found: Mapping[GroupName, Group]) -> Iterator[tuple[str, ...]]:
    for name in _STAYING:
        if name in found:
            metrics = found[name].metrics
            changes = [metrics.get(metric) for metric in (MetricName.EXACT, MetricName.TOKEN_PROBABILITY)]
            likelihood = metrics.get(MetricName.NLL)
            perplexity = figures.number(math.exp(min(likelihood.change.value, 50.0))) if likelihood else ""
            yield words.GROUPS[name], *(figures.estimate(one.change) if one else "" for one in changes), perplexity


def _hashed(report: Report) -> Html:
    if not report.hashed:
        return join(())
    columns = ("request", "questions answered", "words of it said", "new")
    rows = (
        (one.request_id, str(one.n_questions), f"{one.before} → {one.after}", str(one.gained)) for one in report.hashed
    )
    return table("Earlier requests of which only hashes are kept: before → after", columns, rows)


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
    shown = (figures.arrow(early, late) for early, late in means)
    own = figures.number(one.own_time.numbers.extraction_strength) if one.own_time else ""
    return one.request_id, str(one.n_items), *shown, own, *(f"{early} → {late}" for early, late in counts)
