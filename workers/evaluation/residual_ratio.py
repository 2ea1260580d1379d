"""How much of what training left is still there? 1 untouched, 0 as if never trained, below 0 driven past that.

    ρ = mean_F d / mean_F D

d is the forget items' departure from what a never-trained item of the same difficulty would score (calibration.py)
under the LLM after unlearning, D the same before it, each with its own line fitted on the control. Any score will do
that is a number an item; its direction does not matter.

From five subjects in both sets on, whole subjects are resampled and the lines fitted anew each time. With fewer, such
as one person, and where a resample holds only people of whom nothing was known and so has no share, d - ρD is itself a
departure, of the score y_after - ρ y_before: its error comes from how the control's subjects vary, and the interval is
Fieller's idea linearised at ρ. That error says nothing of how much the forgotten persons themselves differ in what was
learned of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from workers.evaluation.bootstrap import RESAMPLES, Interval, Statistic, cluster_bootstrap
from workers.evaluation.calibration import MeanDeparture, fit_reference, mean_departure
from workers.evaluation.quantiles import t_quantile
from workers.evaluation.variance_components import Floats

BOOTSTRAP_SUBJECTS = 5


@dataclass(frozen=True)
class Scored:
    """One number an item, before and after; `base` under an ignorant LLM, if there is one; whom each is about."""

    before: Floats
    after: Floats
    base: Floats | None
    subjects: ArrayLike

    @property
    def units(self) -> int:
        return len(np.unique(np.asarray(self.subjects)))


@dataclass(frozen=True, slots=True)
class ResidualRatio:
    """`gap` is mean D, in units of the score: what there was to forget."""

    interval: Interval
    basis: Literal["subjects resampled", "control's variance"]
    gap: MeanDeparture


def residual_ratio(
    forget: Scored, control: Scored, *, seed: int, confidence: float = 0.90, resamples: int = RESAMPLES
) -> ResidualRatio | None:
    """ρ with a two-sided interval (its upper end alone is a 95 % bound at the default); None if the gap is not larger
    than twice its error, since a share of nothing means nothing.
    """
    gap = departure(forget, control, forget.before, control.before)
    if abs(gap.value) <= 2 * gap.error:
        return None
    if min(forget.units, control.units) >= BOOTSTRAP_SUBJECTS:
        sloped = fit_reference(control.before, control.base, control.subjects).kind == "regression"
        statistic = ratio_statistic(forget, control, sloped)
        pair = (forget.subjects, control.subjects)
        with np.errstate(divide="ignore", invalid="ignore"):
            interval = cluster_bootstrap(statistic, pair, seed=seed, confidence=confidence, resamples=resamples)
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            return ResidualRatio(interval, "subjects resampled", gap)
    value = departure(forget, control, forget.after, control.after).value / gap.value
    remainder = _less(forget, control, value)
    half = t_quantile((1 + confidence) / 2, remainder.degrees) * remainder.error / abs(gap.value)
    return ResidualRatio(Interval(value, value - half, value + half, confidence), "control's variance", gap)


def departure(forget: Scored, control: Scored, scores: Floats, control_scores: Floats) -> MeanDeparture:
    fitted = fit_reference(control_scores, control.base, control.subjects)
    return mean_departure(fitted, scores, forget.base, forget.subjects)


def _less(forget: Scored, control: Scored, ratio: float) -> MeanDeparture:
    """Mean of d - ratio·D, with the error of both together."""
    return departure(forget, control, forget.after - ratio * forget.before, control.after - ratio * control.before)


def ratio_statistic(forget: Scored, control: Scored, sloped: bool) -> Statistic:
    """ρ by rows of item counts (forget's, control's), lines fitted anew in every row."""

    def ratio(weights: Sequence[Floats]) -> Floats:
        times_F, times_C = weights
        after, before = (
            _departures(times_F, times_C, ours, theirs, forget.base if sloped else None, control.base)
            for ours, theirs in ((forget.after, control.after), (forget.before, control.before))
        )
        return np.asarray(after / before)

    return ratio


def _departures(
    times_F: Floats, times_C: Floats, ours: Floats, theirs: Floats, base_F: Floats | None, base_C: Floats | None
) -> Floats:
    """Mean departure of each row; a row whose control has no spread of difficulty left has slope 0."""
    share_F, share_C = (times / times.sum(1, keepdims=True) for times in (times_F, times_C))
    mean_departure_R = share_F @ ours - share_C @ theirs
    if base_F is None or base_C is None:
        return np.asarray(mean_departure_R)
    x_R, y_R = share_C @ base_C, share_C @ theirs
    spread_R = share_C @ base_C**2 - x_R**2
    joint_R = share_C @ (base_C * theirs) - x_R * y_R
    slope_R = np.divide(joint_R, spread_R, out=np.zeros_like(joint_R), where=spread_R > 1e-12)
    return np.asarray(mean_departure_R - slope_R * (share_F @ base_F - x_R))
