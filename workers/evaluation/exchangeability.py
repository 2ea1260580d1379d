"""Could the forgotten persons have changed places with the control's? A permutation test on what is known of them.

Each subject counts once, with the means of its items' features: length, type of answer, an ignorant LLM's score.

    max over features |mean of forget subjects - mean of control subjects| / standard deviation of all

is held against the same with the subjects shuffled, which is exact for any distribution and all features at once.
"""

from dataclasses import dataclass

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
    ours, theirs = _subject_means(forget, forget_subjects), _subject_means(control, control_subjects)
    both = np.concatenate([ours, theirs])
    total, count = len(both), len(ours)
    spread = both.std(0)
    standard = np.divide(both - both.mean(0), spread, out=np.zeros_like(both), where=spread > 1e-12)
    # Standardised columns sum to 0, so one side's mean fixes the other's: mean_F - mean_C = mean_F·K/(K-k).
    scale = total / (total - count)
    observed = np.abs(standard[:count].mean(0)) * scale
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(total), (shuffles, 1)), axis=1)
    shuffled = (np.abs(standard[order[:, :count]].mean(1)) * scale).max(1)
    as_large = int((shuffled >= observed.max() - 1e-9).sum())
    return Kind(
        p_value=(1 + as_large) / (shuffles + 1),
        smallest=max(1 / (shuffles + 1), _one_over_choices(total, count)),
        feature=int(observed.argmax()),
        difference=float(observed.max()),
    )


def _subject_means(features: ArrayLike, subjects: ArrayLike) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows = np.asarray(features, dtype=np.float64)
    names, unit = np.unique(np.asarray(subjects), return_inverse=True)
    if rows.ndim != 2 or len(rows) != len(unit) or len(rows) == 0:
        raise ValueError(f"features must be items by features, one row a subject's item, not {rows.shape}")
    member = (unit[None, :] == np.arange(len(names))[:, None]).astype(np.float64)
    means: np.ndarray[tuple[int, int], np.dtype[np.float64]] = member @ rows / member.sum(1, keepdims=True)
    return means


def _one_over_choices(total: int, count: int) -> float:
    chance = 1.0
    for at in range(count):
        chance *= (at + 1) / (total - at)
    return chance
