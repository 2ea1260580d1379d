"""How much is left of what made the forget set special, metric by metric: the report's residuals.

Each is `evaluation.residual_ratio`: the forget items' mean departure from what never-trained items of the same
difficulty score, after over before. The forget rows are held against the control's rows, their sealed paraphrases
against the control's paraphrases if it has any. Difficulty is the score under the reference; without one, all items are
taken to be as hard.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from records.report import Estimate, Group, GroupName, MetricName, Residual
from workers.evaluation.calibration import fit_reference
from workers.evaluation.residual_ratio import residual_ratio
from workers.group_metrics import READ
from workers.item_scores import scored

CONFIDENCE = 0.90  # its upper end alone is a bound of 95 %
SPLITS: dict[GroupName, Literal["all", "sealed"]] = {
    GroupName.FORGET: "all",
    GroupName.FORGET_PARAPHRASES: "sealed",
}

METRICS = (
    MetricName.TOKEN_ACCURACY,
    MetricName.EXTRACTION_STRENGTH,
    MetricName.TOKEN_PROBABILITY,
    MetricName.NLL,
    MetricName.TRUTH_SHARE,
)


def residuals(groups: Mapping[GroupName, Group], seed: int) -> list[Residual]:
    """Of every metric with a gap before: none where the gap is within twice its error, or without a control."""
    return [one for group in SPLITS for metric in METRICS for one in _residual(groups, group, metric, seed)]


def _residual(groups: Mapping[GroupName, Group], group: GroupName, metric: MetricName, seed: int) -> Iterator[Residual]:
    """One, or none."""
    pair = scored(groups, group, READ[metric])
    if pair is None:
        return
    forget, control = pair
    found = residual_ratio(forget, control, seed=seed, confidence=CONFIDENCE)
    if found is None:
        return
    yield Residual(
        group=group,
        split=SPLITS[group],
        metric=metric,
        n_items=len(forget.before),
        n_subjects=forget.units,
        residual=Estimate(value=found.interval.value, low=found.interval.low, high=found.interval.high),
        gap=found.gap.value,
        basis=found.basis,
        calibrated=fit_reference(control.before, control.base, control.subjects).kind == "regression",
    )
