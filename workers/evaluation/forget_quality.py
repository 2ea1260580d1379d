"""TOFU's two aggregates: forget quality and model utility (Maini et al., COLM 2024, arXiv:2401.06121).

    forget quality   p-value of the two-sample Kolmogorov-Smirnov test between the truth ratios of the unlearned and of
                     a retrained LLM; it needs the retrained one
    model utility    harmonic mean of nine numbers: probability, ROUGE-L recall and truth ratio of the retain set, of
                     real authors and of world facts; 0 if any is 0

Forget quality is for comparison with published tables only. It is nearly blind: with 300 items of which 20 % are still
known by heart it rejects one time in fifty, with 40 items never.

The p-value is exact, not asymptotic. Under the null every order of the n + m values is equally likely: a lattice path
from (0, 0) to (n, m), and p is the share of paths that come as far as D from the diagonal (Hodges 1957). With A(i, j)
the share of the paths to (i, j) that have been there,

    A(i, j) = 1 where |i/n - j/m| ≥ D, else (i·A(i-1, j) + j·A(i, j-1)) / (i + j),     p = A(n, m)

where nothing is subtracted, so that p keeps its digits however small it is, down to 1e-308.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class KolmogorovSmirnov:
    """D = sup |F - G|, and the chance of D or more if both samples come from one continuous distribution."""

    statistic: float
    p_value: float


def two_sample_ks(one: Sequence[float], two: Sequence[float]) -> KolmogorovSmirnov:
    """Two-sided and exact, O(len·len) in NumPy rows. With ties the p-value is an upper bound."""
    if not one or not two:
        raise ValueError("two samples are compared, each of at least one value")
    n, m = len(one), len(two)
    first, second = np.sort(np.asarray(one, dtype=np.float64)), np.sort(np.asarray(two, dtype=np.float64))
    if np.isnan(first[-1]) or np.isnan(second[-1]):
        raise ValueError("a value is not a number")
    values = np.concatenate([first, second])
    below_one = np.searchsorted(first, values, side="right").astype(np.int64)
    below_two = np.searchsorted(second, values, side="right").astype(np.int64)
    farthest = int(np.abs(below_one * m - below_two * n).max())  # n·m·D, a whole number
    return KolmogorovSmirnov(farthest / (n * m), _share_of_paths(n, m, farthest))


def forget_quality(unlearned_ratios: Sequence[float], retrained_ratios: Sequence[float]) -> KolmogorovSmirnov:
    """Of the items' truth ratios; R and 1/R give the same."""
    return two_sample_ks(unlearned_ratios, retrained_ratios)


def model_utility(parts: Sequence[float]) -> float:
    """N / Σ 1/x_i of the N parts, each at least 0; 0 if one is."""
    if not parts or min(parts) < 0.0:
        raise ValueError("a harmonic mean needs one part or more, none of them negative")
    return 0.0 if min(parts) == 0.0 else len(parts) / math.fsum(1.0 / part for part in parts)


def _share_of_paths(n: int, m: int, farthest: int) -> float:
    """A(n, m), one antidiagonal i + j = s after the other; `share[i]` is A(i, s - i)."""
    share: NDArray[np.float64] = np.zeros(n + 1)
    share[0] = float(farthest == 0)
    for s in range(1, n + m + 1):
        low, high = max(0, s - m), min(n, s)
        i = np.arange(low, high + 1)
        j = s - i
        from_left = np.where(i > 0, share[np.maximum(i - 1, 0)], 0.0)
        mean = (i * from_left + j * share[i]) / s
        share[low : high + 1] = np.where(np.abs(i * m - j * n) >= farthest, 1.0, mean)
    return float(share[n])
