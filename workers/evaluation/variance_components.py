"""How much of the spread of scores is between subjects, how much between items of one? One-way analysis of variance.

The subjects may have unequal numbers of items (Searle, Casella and McCulloch, Variance Components, 1992, ch. 3). A
negative estimate is read as 0. Where nothing tells the two apart all is the subjects', as if the items of one were one:
no other share of a total makes the error of a mean larger, and taken for the items' it would shrink with their number.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def variance_components(values: ArrayLike, subjects: ArrayLike, slopes: int = 0) -> tuple[float, float]:
    """(σ²_subject, σ²_item), each at least 0. `slopes` were fitted before and cost degrees of freedom within subjects.

    MSB = Σ n_j (mean_j - mean)²/(k-1), MSW = Σ (v - mean_j)²/(N-k-slopes), n₀ = (N - Σ n_j²/N)/(k-1),
    σ²_item = MSW, σ²_subject = (MSB - MSW)/n₀. Where no subject has two items, or none a second one to spare for the
    slopes, all of the variance about the mean is the subjects'.
    """
    v, unit, sizes = by_subject(values, subjects)
    n, k = len(v), len(sizes)
    if k < 2 or n - 1 - slopes < 1:
        raise ValueError(f"spread between subjects needs at least two of them and an item to spare, not {k} with {n}")
    means = np.bincount(unit, v) / sizes
    between = float((sizes * (means - v.mean()) ** 2).sum())
    within = float(((v - means[unit]) ** 2).sum())
    if n - k - slopes < 1:
        return (between + within) / (n - 1 - slopes), 0.0
    item = within / (n - k - slopes)
    n0 = (n - float((sizes**2).sum()) / n) / (k - 1)
    return max(0.0, (between / (k - 1) - item) / n0), item


def by_subject(values: ArrayLike, subjects: ArrayLike) -> tuple[Floats, NDArray[np.intp], Floats]:
    """Values of at least one item, ordinal of each one's subject, items of each subject."""
    found = column(values, len(np.asarray(values)), "scores")
    if len(found) == 0 or len(np.asarray(subjects)) != len(found):
        raise ValueError("scores need at least one item, and subjects name one for each")
    _, unit, sizes = np.unique(np.asarray(subjects), return_inverse=True, return_counts=True)
    return found, unit, sizes.astype(np.float64)


def column(values: ArrayLike, items: int, field: str) -> Floats:
    """So many finite numbers; the error names the field."""
    found = np.asarray(values, dtype=np.float64)
    if found.shape != (items,) or not np.isfinite(found).all():
        raise ValueError(f"{field} must be {items} finite numbers, one an item")
    return found
