"""Is it no worse than allowed? Not finding a difference does not show it.

The hypothesis to reject is the harm itself: that a change is at or beyond a margin fixed beforehand. So the change's
bound must lie within it; of a mean over items the error is

    SE² = k/(k-1) Σ_j (Σ_{i of subject j} (d_i - mean))² / N²     subjects are drawn, not items; k-1 degrees of freedom

n that would have decided, with chance `power` and no true change (Guenther 1981):

    (z_{1-α} + z_{power})² k·SE² / margin² + z²_{1-α}/2
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from workers.evaluation.variance_components import by_subject

POWER = 0.8


@dataclass(frozen=True, slots=True)
class Finding:
    """`pass` where the harm is ruled out at alpha, `fail` where it is shown at alpha, else `undecided`.

    `p_value` is that of the harm. `low` and `high` are each a one-sided bound of the change at 1 - alpha. `needed`
    subjects (or answers) would have decided, None where it is decided or not to be told.
    """

    outcome: Literal["pass", "fail", "undecided"]
    value: float
    low: float
    high: float
    p_value: float
    alpha: float
    units: int
    needed: int | None

    @property
    def words(self) -> str:
        """A sentence for a report."""
        if self.outcome == "undecided" and self.needed is not None:
            return f"too few to decide: {self.units} were measured, about {self.needed} are needed"
        ends = f"change {self.value:.3f} (from {self.low:.3f} to {self.high:.3f}), {self.units} measured"
        verb = {"pass": "within the margin", "fail": "beyond the margin", "undecided": "not decided"}[self.outcome]
        return f"{verb}: {ends}"


def clustered_error(changes: ArrayLike, subjects: ArrayLike) -> tuple[float, float, int]:
    """(mean over items, SE, subjects k)."""
    d, unit, sizes = by_subject(changes, subjects)
    k = len(sizes)
    if k < 2:
        raise ValueError("the error of a mean needs items about at least two subjects")
    sums = np.bincount(unit, d - d.mean())
    return float(d.mean()), math.sqrt(k / (k - 1) * float((sums**2).sum())) / len(d), k


def outcome_of(low: float, high: float, band: tuple[float, float]) -> Literal["pass", "fail", "undecided"]:
    """Of the change's bounds, each one-sided, against what is allowed."""
    if band[0] < low and high < band[1]:
        return "pass"
    return "fail" if high <= band[0] or low >= band[1] else "undecided"


def units_needed(deviation: float, margin: float, alpha: float = 0.05, power: float = POWER) -> int:
    """Subjects whose means scatter by `deviation` that show a change of 0 to be within `margin`."""
    z_alpha, z_power = (NormalDist().inv_cdf(p) for p in (1 - alpha, power))
    return max(2, math.ceil(((z_alpha + z_power) * deviation / margin) ** 2 + z_alpha**2 / 2))
