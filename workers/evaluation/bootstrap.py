"""How far would a number have moved, had other people been asked? Whole subjects are drawn with replacement.

A statistic takes how often each item counts, one row a resample, and gives one number a row, so 2,000 resamples are a
few matrix products and nothing that was fitted is taken for granted. Samples from several sets (forget, control) are
drawn separately.

BCa (Efron 1987; for several samples Davison and Hinkley 1997, ch. 5) takes the interval's ends at

    Φ( z₀ + (z₀ + z) / (1 - a (z₀ + z)) ),   z₀ = Φ⁻¹(share of resamples below the estimate),
    a = (1/6) Σ_s n_s⁻³ Σ_j l_sj³ / (Σ_s n_s⁻² Σ_j l_sj²)^{3/2},   l_sj = (n_s - 1)(mean_j θ_(-j) - θ_(-j))

With few subjects a bootstrap is too narrow by √((n-1)/n) and by the normal's tails. Hesterberg (2015, arXiv:1411.5279)
asks a percentile further out, z = √(n/(n-1)) t_{n-1}; so is done here, with n the smallest number of subjects.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from workers.evaluation.quantiles import t_quantile
from workers.evaluation.variance_components import Floats

RESAMPLES = 2000
NORMAL = NormalDist()

Statistic = Callable[[Sequence[Floats]], Floats]


@dataclass(frozen=True, slots=True)
class Interval:
    """`low` and `high` hold the middle `confidence`; each end alone is a one-sided bound at (1 + confidence)/2."""

    value: float
    low: float
    high: float
    confidence: float


def subject_counts(subjects: ArrayLike, resamples: int, rng: np.random.Generator) -> Floats:
    """(resamples, items): how often each item is drawn when as many subjects as there are, are drawn."""
    _, unit = np.unique(np.asarray(subjects), return_inverse=True)
    count = int(unit.max()) + 1
    times = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    return times[:, unit].astype(np.float64)


def leave_one_out(subjects: ArrayLike) -> Floats:
    """(subjects, items): 0 for the items of the one left out, else 1."""
    _, unit = np.unique(np.asarray(subjects), return_inverse=True)
    return (unit[None, :] != np.arange(int(unit.max()) + 1)[:, None]).astype(np.float64)


def acceleration(jackknives: Sequence[Floats]) -> float:
    """BCa's a, from the leave-one-subject-out values of each sample; 0 where they are all alike."""
    cubes = squares = 0.0
    for left_out in jackknives:
        n = len(left_out)
        influence = (n - 1) * (left_out.mean() - left_out)
        cubes += float((influence**3).sum()) / n**3
        squares += float((influence**2).sum()) / n**2
    return 0.0 if squares == 0.0 else cubes / (6 * squares**1.5)


def widened(confidence: float, subjects: int) -> float:
    """Normal quantile of Hesterberg's expanded percentile: √(n/(n-1)) t_{n-1}."""
    return math.sqrt(subjects / (subjects - 1)) * t_quantile((1 + confidence) / 2, subjects - 1)


def bca_ends(value: float, resampled: Floats, acceleration_: float, z: float) -> tuple[float, float]:
    """Both ends, ±z away before the corrections. Resamples equal to the estimate count half."""
    below = float((resampled < value).mean() + (resampled == value).mean() / 2)
    edge = 1 / (2 * len(resampled))
    z0 = NORMAL.inv_cdf(min(max(below, edge), 1 - edge))
    low, high = (NORMAL.cdf(_corrected(z0, acceleration_, side)) for side in (-z, z))
    ends = np.quantile(resampled, [low, high])
    return float(ends[0]), float(ends[1])


def _corrected(z0: float, acceleration_: float, z: float) -> float:
    """An end that the corrections would carry past infinity stays at the last resample."""
    shrink = 1 - acceleration_ * (z0 + z)
    return z0 + (z0 + z) / shrink if shrink > 0 else math.copysign(math.inf, z0 + z)


def cluster_bootstrap(
    statistic: Statistic,
    samples: Sequence[ArrayLike],
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """BCa interval of a statistic of samples, each given by whom its items are about: at least two subjects each."""
    units = [len(np.unique(np.asarray(one))) for one in samples]
    if min(units) < 2:
        raise ValueError(f"drawing subjects needs at least two in each sample, not {units}")
    rng = np.random.default_rng(seed)
    whole = [np.ones((1, len(np.asarray(one)))) for one in samples]
    value = float(statistic(whole)[0])
    resampled = statistic([subject_counts(one, resamples, rng) for one in samples])
    jackknives = []
    for at, one in enumerate(samples):
        left_out = leave_one_out(one)
        weights = [np.repeat(ones, len(left_out), 0) for ones in whole]
        jackknives.append(statistic([*weights[:at], left_out, *weights[at + 1 :]]))
    low, high = bca_ends(value, resampled, acceleration(jackknives), widened(confidence, min(units)))
    return Interval(value, low, high, confidence)
