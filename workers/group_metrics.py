"""A group's items become means and rates, before, after and changed, with intervals.

Rates get exact binomial intervals, means and every change the bootstrap by subject. A metric is of those items that
have it under both LLMs, and absent if none has.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from records.report import Estimate, ItemNumbers, ItemRow, MetricName, Paired
from workers.evaluation.intervals import clopper_pearson, percentiles, resample_counts

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


def group_metrics(rows: Sequence[ItemRow], seed: int) -> dict[MetricName, Paired]:
    """Of at least one row. Metrics of the same rows are resampled alike, so that they can be held together."""
    drawn: dict[tuple[int, ...], Tensor] = {}
    found = {}
    for name, read in READ.items():
        pairs = [(read(row.before), read(row.after)) for row in rows]
        having = tuple(at for at, pair in enumerate(pairs) if None not in pair)
        if not having:
            continue
        if having not in drawn:
            drawn[having] = resample_counts([rows[at].subject for at in having], seed)
        before, after = ([float(pairs[at][when] or 0.0) for at in having] for when in (0, 1))
        paired = _paired(before, after, drawn[having], name in RATES)
        found[name] = paired if len(having) == len(rows) else paired.model_copy(update={"n_items": len(having)})
    return found


def _paired(before: Sequence[float], after: Sequence[float], counts_RN: Tensor, rate: bool) -> Paired:
    change = [late - early for early, late in zip(before, after, strict=True)]
    single = _rate if rate else _mean
    return Paired(before=single(before, counts_RN), after=single(after, counts_RN), change=_mean(change, counts_RN))


def _mean(values: Sequence[float], counts_RN: Tensor) -> Estimate:
    low, high = percentiles(counts_RN @ torch.tensor(values, dtype=torch.float64) / counts_RN.sum(1))
    return Estimate(value=math.fsum(values) / len(values), low=low, high=high)


def _rate(values: Sequence[float], counts_RN: Tensor) -> Estimate:  # noqa: ARG001 - same shape as _mean
    hits = round(math.fsum(values))
    low, high = clopper_pearson(hits, len(values))
    return Estimate(value=hits / len(values), low=low, high=high)
