"""A group's items become means and rates, before, after and changed, with intervals.

Items about one person are alike, so means and every change get the t interval over people, no wider than the metric
reaches; with a single person it says how the items vary, not how people do, and of a single item there is none: both
ends are its value. A resampling of people would be too narrow: of intervals at 95 % it holds 82 with five people and 47
with two. Rates get the exact binomial interval, each end the farther one of both where people have several rows. A
metric is of those items that have it under both LLMs, and absent if none has.
"""

import math
from collections.abc import Callable, Sequence

from records.report import Estimate, ItemNumbers, ItemRow, MetricName, Paired
from workers.evaluation.equivalence import clustered_error
from workers.evaluation.intervals import CONFIDENCE, clopper_pearson
from workers.evaluation.quantiles import t_quantile

READ: dict[MetricName, Callable[[ItemNumbers], float | None]] = {
    MetricName.NLL: lambda one: one.nll,
    MetricName.TOKEN_PROBABILITY: lambda one: one.token_probability,
    MetricName.EXACT: lambda one: one.exact,
    MetricName.TOKEN_ACCURACY: lambda one: one.token_accuracy,
    MetricName.EXTRACTION_STRENGTH: lambda one: one.extraction_strength,
    MetricName.SAMPLED_PROBABILITY: lambda one: one.sampled_probability,
    MetricName.GREEDY_EXTRACTION: lambda one: one.greedy_extracted,
    MetricName.SAMPLED_EXTRACTION: lambda one: None if one.sampled_hits is None else one.sampled_hits > 0,
    MetricName.TRUTH_SHARE: lambda one: one.truth_share,
    MetricName.VERBATIM_RUN: lambda one: one.verbatim_run,
    MetricName.EXTRACTION_LIKELIHOOD: lambda one: one.extraction_likelihood,
    MetricName.ROUGE_RECALL: lambda one: one.rouge_recall,
    MetricName.ROUGE_F1: lambda one: one.rouge_f1,
    MetricName.REFUSAL: lambda one: one.refused,
    MetricName.EMPTY: lambda one: None if one.answer_tokens is None else one.answer_tokens == 0,
    MetricName.REPETITION: lambda one: one.repetition,
    MetricName.TOKEN_ENTROPY: lambda one: one.token_entropy,
    MetricName.EXPOSURE: lambda one: one.exposure,
}
RATES = frozenset(
    {
        MetricName.EXACT,
        MetricName.GREEDY_EXTRACTION,
        MetricName.SAMPLED_EXTRACTION,
        MetricName.REFUSAL,
        MetricName.EMPTY,
    }
)


# All others are shares: from 0 to 1.
LENGTHS = frozenset({MetricName.NLL, MetricName.VERBATIM_RUN, MetricName.TOKEN_ENTROPY, MetricName.EXPOSURE})


def group_metrics(rows: Sequence[ItemRow]) -> dict[MetricName, Paired]:
    """Of at least one row."""
    found = {}
    for name, read in READ.items():
        pairs = [(read(row.before), read(row.after), row.subject) for row in rows]
        having = [pair for pair in pairs if None not in pair[:2]]
        if having:
            paired = _paired(having, name)
            found[name] = paired if len(having) == len(rows) else paired.model_copy(update={"n_items": len(having)})
    return found


def _paired(items: Sequence[tuple[float | None, float | None, int]], name: MetricName) -> Paired:
    """`items` are (before, after, subject)."""
    before, after = ([float(item[when] or 0.0) for item in items] for when in (0, 1))
    subjects = [item[2] for item in items]
    most = math.inf if name in LENGTHS else 1.0
    single = _rate if name in RATES else _mean
    change = [late - early for early, late in zip(before, after, strict=True)]
    return Paired(
        before=single(before, subjects, 0.0, most),
        after=single(after, subjects, 0.0, most),
        change=_mean(change, subjects, -most, most),
    )


def _mean(values: Sequence[float], subjects: Sequence[int], least: float, most: float) -> Estimate:
    value = math.fsum(values) / len(values)
    half = 0.0
    if len(values) > 1:
        units = subjects if len(set(subjects)) > 1 else range(len(values))
        _, error, count = clustered_error(values, units)
        half = t_quantile((1 + CONFIDENCE) / 2, count - 1) * error
    return Estimate(value=value, low=max(least, value - half), high=min(most, value + half))


def _rate(values: Sequence[float], subjects: Sequence[int], least: float, most: float) -> Estimate:
    """The binomial one alone would take a person's rows for as many people's."""
    low, high = clopper_pearson(round(math.fsum(values)), len(values))
    found = _mean(values, subjects, least, most)
    if 1 < len(set(subjects)) < len(values):
        low, high = min(low, found.low), max(high, found.high)
    return Estimate(value=found.value, low=low, high=high)
