"""Is it no worse than allowed, or near enough to the same? Not finding a difference shows neither.

The hypothesis to reject is the harm itself: that the mean change is at or beyond a margin fixed beforehand.

    non-inferior     mean - t·SE > -margin                          one-sided, level alpha
    equivalent       both: mean - t·SE > -margin, mean + t·SE < margin      (TOST, Schuirmann 1987), each at alpha
    SE² = k/(k-1) Σ_j (Σ_{i of subject j} (d_i - mean))² / N²     subjects are drawn, not items; k-1 degrees of freedom

Where all changes are alike, k subjects leave room for a share 1 - alpha^(1/k) that was not met, whose change may be 1:
scores are taken to lie between 0 and 1. Answers right or wrong have a test of their own (answers.py).

n that would have decided, with chance `power` and no true change (Guenther 1981; for equivalence z_{(1+power)/2}):

    (z_{1-α} + z_{power})² k·SE² / margin² + z²_{1-α}/2
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from workers.evaluation.quantiles import t_quantile, t_tail
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


def non_inferiority(changes: ArrayLike, subjects: ArrayLike, margin: float, alpha: float = 0.05) -> Finding:
    """Changes after - before of a score of which more is better; a loss of `margin` > 0 is too much."""
    return _judge(changes, subjects, (-margin, math.inf), alpha)


def equivalence(changes: ArrayLike, subjects: ArrayLike, margin: float, alpha: float = 0.05) -> Finding:
    """Changes that may go neither way by `margin` > 0."""
    return _judge(changes, subjects, (-margin, margin), alpha)


def _judge(changes: ArrayLike, subjects: ArrayLike, band: tuple[float, float], alpha: float) -> Finding:
    if not band[0] < 0:
        raise ValueError("margin must be above 0: no change at all cannot be shown")
    mean, error, k = clustered_error(changes, subjects)
    t = t_quantile(1 - alpha, k - 1)
    low, high = mean - t * error, mean + t * error
    p = max(_tail(mean - band[0], error, k), _tail(band[1] - mean, error, k))
    if error == 0.0:
        unseen = 1 - alpha ** (1 / k)
        low, high = mean - unseen, mean + unseen
        p = max((1 - min(1.0, mean - band[0])) ** k, (1 - min(1.0, band[1] - mean)) ** k) if p == 0.0 else 1.0
    outcome = outcome_of(low, high, band)
    two_sided = math.isfinite(band[1])
    needed = None
    if outcome == "undecided" and error > 0.0:
        needed = units_needed(error * math.sqrt(k), -band[0], alpha, two_sided=two_sided)
    elif outcome == "undecided" and -band[0] < 1.0:
        needed = math.ceil(math.log(alpha) / math.log1p(band[0]))
    return Finding(outcome, mean, low, high, p, alpha, k, needed if needed is None or needed > k else None)


def outcome_of(low: float, high: float, band: tuple[float, float]) -> Literal["pass", "fail", "undecided"]:
    """Of the change's bounds, each one-sided, against what is allowed."""
    if band[0] < low and high < band[1]:
        return "pass"
    return "fail" if high <= band[0] or low >= band[1] else "undecided"


def _tail(distance: float, error: float, k: int) -> float:
    """p-value of a bound that lies `distance` away on the right side."""
    if error == 0.0 or math.isinf(distance):
        return 0.0 if distance > 0 else 1.0
    return t_tail(distance / error, k - 1)


def units_needed(
    deviation: float, margin: float, alpha: float = 0.05, power: float = POWER, *, two_sided: bool = False
) -> int:
    """Subjects whose means scatter by `deviation` that show a change of 0 to be within `margin`."""
    z_alpha, z_power = (NormalDist().inv_cdf(p) for p in (1 - alpha, (1 + power) / 2 if two_sided else power))
    return max(2, math.ceil(((z_alpha + z_power) * deviation / margin) ** 2 + z_alpha**2 / 2))
