"""Could the forgotten persons have changed places with the control's? A permutation test on what is known of them.

Each subject counts once, with the means of its items' features: length, type of answer, an ignorant LLM's score.

    max over features |mean of forget subjects - mean of control subjects| / standard deviation of all

is held against the same with the subjects shuffled, which is exact for any distribution and all features at once, if
a subject's mean varies as much on one side as on the other. A mean of five items varies more than one of fifteen, so of
a subject with more items than half of the subjects of the side with fewer have, that many are drawn.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SHUFFLES = 1999


@dataclass(frozen=True, slots=True)
class Kind:
    """`p_value` is of all features together; `feature` is the ordinal of the one that differs most, by `difference`
    standard deviations between subjects. `smallest` is the least p-value that so few subjects could have given.
    """

    p_value: float
    smallest: float
    feature: int
    difference: float


def kind(
    forget: ArrayLike,
    forget_subjects: ArrayLike,
    control: ArrayLike,
    control_subjects: ArrayLike,
    *,
    seed: int,
    shuffles: int = SHUFFLES,
) -> Kind:
    """Features are columns, items rows; a type of answer is a column of 0 and 1 for each type."""
    rng = np.random.default_rng(seed)
    sides = [_items_of_subjects(forget, forget_subjects), _items_of_subjects(control, control_subjects)]
    most = int(min(np.median([len(items) for items in side]) for side in sides))
    ours, theirs = ([rng.permutation(items)[:most].mean(0) for items in side] for side in sides)
    both = np.concatenate([ours, theirs])
    total, count = len(both), len(ours)
    spread = both.std(0)
    standard = np.divide(both - both.mean(0), spread, out=np.zeros_like(both), where=spread > 1e-12)
    # Standardised columns sum to 0, so one side's mean fixes the other's: mean_F - mean_C = mean_F·K/(K-k).
    scale = total / (total - count)
    observed = np.abs(standard[:count].mean(0)) * scale
    order = rng.permuted(np.tile(np.arange(total), (shuffles, 1)), axis=1)
    shuffled = (np.abs(standard[order[:, :count]].mean(1)) * scale).max(1)
    as_large = int((shuffled >= observed.max() - 1e-9).sum())
    return Kind(
        p_value=(1 + as_large) / (shuffles + 1),
        smallest=max(1 / (shuffles + 1), _one_over_choices(total, count)),
        feature=int(observed.argmax()),
        difference=float(observed.max()),
    )


def _items_of_subjects(features: ArrayLike, subjects: ArrayLike) -> list[np.ndarray[tuple[int, int], np.dtype[Any]]]:
    rows = np.asarray(features, dtype=np.float64)
    names, unit = np.unique(np.asarray(subjects), return_inverse=True)
    if rows.ndim != 2 or len(rows) != len(unit) or len(rows) == 0:
        raise ValueError(f"features must be items by features, one row a subject's item, not {rows.shape}")
    return [rows[unit == at] for at in range(len(names))]


def _one_over_choices(total: int, count: int) -> float:
    chance = 1.0
    for at in range(count):
        chance *= (at + 1) / (total - at)
    return chance
