"""Two measurements of the same probes become one report: means, rates, paired changes, residuals, all with intervals.

A residual says how much of what made the forget set special is left: 1 untouched, 0 as if never trained,
(forget_after - control_after) / (forget_before - control_before).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from records.report import (
    EarlierNumbers,
    EarlierRequest,
    Estimate,
    Group,
    GroupName,
    ItemNumbers,
    ItemRow,
    MetricName,
    Paired,
    Report,
    Residual,
)
from workers.evaluation.intervals import clopper_pearson, percentiles, resample_counts
from workers.measure import Measured, Measurement, MeasureSettings, measure
from workers.probes import Probes, split_probes

__all__ = ["MeasureSettings", "Measurement", "Probes", "build_report", "measure", "split_probes"]

# A forget set less than this above the control before unlearning has no residual to speak of.
SMALLEST_GAP = 0.02

_READ: dict[MetricName, Callable[[ItemNumbers], float]] = {
    MetricName.NLL: lambda one: one.nll,
    MetricName.TOKEN_PROBABILITY: lambda one: one.token_probability,
    MetricName.EXACT: lambda one: float(one.exact),
    MetricName.TOKEN_ACCURACY: lambda one: one.token_accuracy,
    MetricName.EXTRACTION_STRENGTH: lambda one: one.extraction_strength,
    MetricName.SAMPLED_PROBABILITY: lambda one: one.sampled_probability,
    MetricName.GREEDY_EXTRACTION: lambda one: float(bool(one.greedy_extracted)),
    MetricName.SAMPLED_EXTRACTION: lambda one: float(bool(one.sampled_hits)),
}
_RATES = frozenset({MetricName.EXACT, MetricName.GREEDY_EXTRACTION, MetricName.SAMPLED_EXTRACTION})
_GENERATED = frozenset({MetricName.GREEDY_EXTRACTION, MetricName.SAMPLED_EXTRACTION})
_RESIDUAL_METRICS = (MetricName.EXTRACTION_STRENGTH, MetricName.TOKEN_PROBABILITY)


def build_report(
    before: Measurement,
    after: Measurement,
    *,
    method: str,
    parameters: Mapping[str, Any],
    seeds: Mapping[str, int],
    seconds: Mapping[str, float] | None = None,
    training: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Both measurements must be of the same probes with the same settings; ValueError otherwise."""
    seed = before.seed
    groups = {
        name: build_group(before.groups[name], after.groups.get(name, []), before.samples, seed)
        for name in before.groups
        if before.groups[name]
    }
    return Report(
        method=method,
        parameters=dict(parameters),
        seeds={**seeds, "measure": seed},
        seconds={**(seconds or {}), "measure_before": before.seconds, "measure_after": after.seconds},
        training=dict(training or {}),
        groups=groups,
        residuals=tuple(residuals(groups, seed)),
        earlier=tuple(_earlier(name, before.earlier[name], after.earlier[name]) for name in before.earlier),
        notes=(*notes, *before.notes, *_missing(groups)),
    )


def build_group(before: Sequence[Measured], after: Sequence[Measured], samples: int, seed: int) -> Group:
    rows = _paired_rows(before, after)
    subjects = [row.subject for row in rows]
    counts_RN = resample_counts(subjects, seed)
    generated = all(row.before.greedy_extracted is not None for row in rows)
    return Group(
        n_items=len(rows),
        n_subjects=len(set(subjects)),
        samples=samples if generated else 0,
        metrics={
            name: _paired(
                [read(row.before) for row in rows], [read(row.after) for row in rows], counts_RN, name in _RATES
            )
            for name, read in _READ.items()
            if generated or name not in _GENERATED
        },
        items=tuple(rows),
    )


def residuals(groups: Mapping[GroupName, Group], seed: int) -> list[Residual]:
    """Of the forget rows, and of their sealed paraphrases against the control's own paraphrases if it has any."""
    control = groups.get(GroupName.CONTROL)
    if control is None:
        return []
    found = []
    for name, split in ((GroupName.FORGET, "all"), (GroupName.FORGET_PARAPHRASES, "sealed")):
        rows = [row for row in groups[name].items if split in ("all", row.split)] if name in groups else []
        reference = control
        if name is GroupName.FORGET_PARAPHRASES:
            reference = groups.get(GroupName.CONTROL_PARAPHRASES, control)
        for metric in _RESIDUAL_METRICS if rows else ():
            estimate = _residual(rows, reference.items, _READ[metric], seed)
            if estimate is not None:
                found.append(
                    Residual(
                        group=name,
                        split="all" if split == "all" else "sealed",
                        metric=metric,
                        n_items=len(rows),
                        n_subjects=len({row.subject for row in rows}),
                        residual=estimate,
                    )
                )
    return found


def _residual(
    forget: Sequence[ItemRow], control: Sequence[ItemRow], read: Callable[[ItemNumbers], float], seed: int
) -> Estimate | None:
    forget_NM, control_NM = _both(forget, read), _both(control, read)
    before, after = (forget_NM.mean(0) - control_NM.mean(0)).tolist()
    if before < SMALLEST_GAP:
        return None
    gaps_RM = _resampled(forget, forget_NM, seed) - _resampled(control, control_NM, seed + 1)
    low, high = percentiles(gaps_RM[:, 1] / gaps_RM[:, 0].clamp(min=SMALLEST_GAP))
    return Estimate(value=after / before, low=low, high=high)


def _both(rows: Sequence[ItemRow], read: Callable[[ItemNumbers], float]) -> Tensor:
    return torch.tensor([[read(row.before), read(row.after)] for row in rows], dtype=torch.float64)


def _resampled(rows: Sequence[ItemRow], values_NM: Tensor, seed: int) -> Tensor:
    counts_RN = resample_counts([row.subject for row in rows], seed)
    return counts_RN @ values_NM / counts_RN.sum(1, keepdim=True)


def _paired(before: Sequence[float], after: Sequence[float], counts_RN: Tensor, rate: bool) -> Paired:
    """Rates get exact binomial intervals, means and every change the bootstrap by subject."""
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


def _paired_rows(before: Sequence[Measured], after: Sequence[Measured]) -> list[ItemRow]:
    if [_place(one) for one in before] != [_place(one) for one in after]:
        raise ValueError("the two measurements asked different probes: measure both with the same settings")
    return [
        ItemRow(
            item=early.asked.probe.item,
            phrasing=early.asked.probe.phrasing,
            subject=early.asked.subject,
            split=early.asked.split,
            before=early.numbers,
            after=late.numbers,
        )
        for early, late in zip(before, after, strict=True)
    ]


def _place(one: Measured) -> tuple[int, int]:
    return one.asked.probe.item, one.asked.probe.phrasing


def _earlier(request_id: str, before: Sequence[Measured], after: Sequence[Measured]) -> EarlierRequest:
    return EarlierRequest(
        request_id=request_id,
        n_items=len(before),
        before=_earlier_numbers(before),
        after=_earlier_numbers(after),
    )


def _earlier_numbers(rows: Sequence[Measured]) -> EarlierNumbers:
    numbers = [row.numbers for row in rows]
    count = max(1, len(numbers))
    return EarlierNumbers(
        token_probability=math.fsum(one.token_probability for one in numbers) / count,
        exact=sum(one.exact for one in numbers),
        extraction_strength=math.fsum(one.extraction_strength for one in numbers) / count,
        greedy_hits=sum(bool(one.greedy_extracted) for one in numbers),
        sampled_items=sum(bool(one.sampled_hits) for one in numbers),
    )


def _missing(groups: Mapping[GroupName, Group]) -> list[str]:
    words = {
        GroupName.CONTROL: "no control dataset: the never-trained level is unknown",
        GroupName.RETAIN: "no retain dataset: damage to other rows was not measured",
        GroupName.UTILITY: "no utility dataset: general ability was not measured",
        GroupName.FORGET_PARAPHRASES: "the forget set has no paraphrases: only its own wording was measured",
    }
    return [sentence for name, sentence in words.items() if name not in groups]
