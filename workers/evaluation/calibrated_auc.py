"""Can anybody tell the forgotten items from never-trained ones, difficulty taken out? 0.5 is no; both sides give away.

    AUC = P(d_F > d_C) + ½ P(d_F = d_C),   d = y - (a + b·x) (a, b) of calibration.py, fitted on the control

Above 0.5 the forget items are still known (y of which more is better known); below, their silence shows. Subjects are
resampled, not items: on TOFU, where items of an author are alike, a test that draws items rejects a third of the LLMs
that never saw any. The line is fitted once: an error of its height is the same on both sides and cancels. Equivalent to
0.5 (TOST) when the 90 % interval lies within 0.5 ± margin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from workers.evaluation.bootstrap import RESAMPLES, Interval, Statistic, cluster_bootstrap
from workers.evaluation.variance_components import Floats


@dataclass(frozen=True, slots=True)
class Telling:
    """`same` when shown to be within the margin of 0.5; `known` or `silent` when shown to be outside it."""

    outcome: Literal["same", "known", "silent", "undecided"]
    interval: Interval
    margin: float


def auc_statistic(forget: Floats, control: Floats) -> Statistic:
    """AUC by rows of item counts (forget's, control's)."""
    above_FC = (forget[:, None] > control) + 0.5 * (forget[:, None] == control)

    def auc(weights: Sequence[Floats]) -> Floats:
        times_F, times_C = weights
        return np.asarray(((times_F @ above_FC) * times_C).sum(1) / (times_F.sum(1) * times_C.sum(1)))

    return auc


def telling_apart(
    forget: Floats,
    forget_subjects: ArrayLike,
    control: Floats,
    control_subjects: ArrayLike,
    *,
    seed: int,
    margin: float = 0.10,
    alpha: float = 0.05,
    resamples: int = RESAMPLES,
) -> Telling:
    """Of departures d. Two subjects at least on each side; with fewer than about five hardly anything is decided."""
    if not 0 < margin < 0.5:
        raise ValueError(f"margin must lie between 0 and 0.5, not {margin}")
    interval = cluster_bootstrap(
        auc_statistic(forget, control),
        (forget_subjects, control_subjects),
        seed=seed,
        confidence=1 - 2 * alpha,
        resamples=resamples,
    )
    low, high = 0.5 - margin, 0.5 + margin
    outcome: Literal["same", "known", "silent", "undecided"] = "undecided"
    if low < interval.low and interval.high < high:
        outcome = "same"
    elif interval.low >= high:
        outcome = "known"
    elif interval.high <= low:
        outcome = "silent"
    return Telling(outcome, interval, margin)
