"""How much is left of what made the forget set special, metric by metric: the report's residuals.

Each is `evaluation.residual_ratio`: the forget items' mean departure from what never-trained items of the same
difficulty score, after over before. The forget rows are held against the control's rows, their sealed paraphrases
against the control's paraphrases if it has any. Difficulty is the score under the reference; without one, all items are
taken to be as hard.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from records.report import Estimate, Group, GroupName, ItemNumbers, ItemRow, MetricName, Residual
from workers.evaluation.calibration import fit_reference
from workers.evaluation.residual_ratio import Scored, residual_ratio

CONFIDENCE = 0.90  # its upper end alone is a bound of 95 %
LEAST_SUBJECTS = 2

Read = Callable[[ItemNumbers], float | None]
Rows = Sequence[ItemRow]

READ: dict[MetricName, Read] = {
    MetricName.TOKEN_ACCURACY: lambda one: one.token_accuracy,
    MetricName.EXTRACTION_STRENGTH: lambda one: one.extraction_strength,
    MetricName.TOKEN_PROBABILITY: lambda one: one.token_probability,
    MetricName.NLL: lambda one: one.nll,
    MetricName.TRUTH_SHARE: lambda one: one.truth_share,
}


def residuals(groups: Mapping[GroupName, Group], seed: int) -> list[Residual]:
    """Of every metric with a gap before: none where the gap is within twice its error, or without a control."""
    if GroupName.CONTROL not in groups:
        return []
    return [*_of_rows(groups, seed), *_of_paraphrases(groups, seed)]


def _of_rows(groups: Mapping[GroupName, Group], seed: int) -> Iterator[Residual]:
    forget, control = groups[GroupName.FORGET].items, groups[GroupName.CONTROL].items
    for metric in READ:
        yield from _residual(GroupName.FORGET, "all", metric, (forget, control), seed)


def _of_paraphrases(groups: Mapping[GroupName, Group], seed: int) -> Iterator[Residual]:
    if GroupName.FORGET_PARAPHRASES not in groups:
        return
    sealed = [row for row in groups[GroupName.FORGET_PARAPHRASES].items if row.split == "sealed"]
    control = groups.get(GroupName.CONTROL_PARAPHRASES, groups[GroupName.CONTROL]).items
    for metric in READ:
        yield from _residual(GroupName.FORGET_PARAPHRASES, "sealed", metric, (sealed, control), seed)


def _residual(
    group: GroupName, split: Literal["all", "sealed"], metric: MetricName, rows: tuple[Rows, Rows], seed: int
) -> Iterator[Residual]:
    """One, or none."""
    read = READ[metric]
    forget, control = (_having(some, read) for some in rows)
    if not forget or len({row.subject for row in control}) < LEAST_SUBJECTS:
        return
    known = all(row.reference is not None and read(row.reference) is not None for row in (*forget, *control))
    ours, theirs = (_scored(some, read, known) for some in (forget, control))
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample in which nothing was known has no share
        found = residual_ratio(ours, theirs, seed=seed, confidence=CONFIDENCE)
    if found is None or not all(map(math.isfinite, (found.interval.low, found.interval.high))):
        return
    yield Residual(
        group=group,
        split=split,
        metric=metric,
        n_items=len(forget),
        n_subjects=ours.units,
        residual=Estimate(value=found.interval.value, low=found.interval.low, high=found.interval.high),
        gap=found.gap.value,
        basis=found.basis,
        calibrated=fit_reference(theirs.before, theirs.base, theirs.subjects).kind == "regression",
    )


def _having(rows: Rows, read: Read) -> list[ItemRow]:
    return [row for row in rows if read(row.before) is not None and read(row.after) is not None]


def _scored(rows: Rows, read: Read, known: bool) -> Scored:
    """`known`: every row has the reference's score."""
    base = [read(row.reference) for row in rows if row.reference is not None] if known else None
    return Scored(
        before=np.array([read(row.before) for row in rows], dtype=np.float64),
        after=np.array([read(row.after) for row in rows], dtype=np.float64),
        base=None if base is None else np.array(base, dtype=np.float64),
        subjects=np.array([row.subject for row in rows]),
    )
