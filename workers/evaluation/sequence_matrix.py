"""Forgetting many times in a row: has anything come back since it was forgotten, and whom to ask?

    ρ[i, j]        what is left of request i after request j ≥ i
    e[i, j]        ρ[i, j] - ρ[i, i]: above 0, request i re-emerges; a later update is a relearning step for it
    BW_j           mean of e[i, j] over i < j, the backward score

Each held against the version just before, 3 % a request would pass for ever. Held against the request's own time they
add up; and what is too little to be seen in one request shows in the mean of many.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from workers.evaluation.quantiles import t_quantile
from workers.evaluation.variance_components import column

RECENT = 10
OLDER_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Backward:
    """BW_j with its bounds, each one-sided; requests are taken as independent."""

    score: float
    low: float
    high: float
    requests: int


def backward_score(rises: ArrayLike, alpha: float) -> Backward | None:
    """From e[i, j] of the earlier requests that were asked again; None of fewer than two."""
    e = column(rises, np.size(rises), "rises")
    if len(e) < 2:
        return None
    half = t_quantile(1 - alpha, len(e) - 1) * float(e.std(ddof=1)) / math.sqrt(len(e))
    return Backward(float(e.mean()), float(e.mean()) - half, float(e.mean()) + half, len(e))


def to_ask_again(requests: int, always: Collection[int] = (), *, seed: int, every: int = 10) -> tuple[int, ...]:
    """Which earlier ones of so many requests (0 … requests-1) to measure now: all at every `every`-th, else the last
    ten, a fifth of the older ones by the seed, and those of `always`, such as requests about personal data.
    """
    if requests % every == 0:
        return tuple(range(requests))
    older = max(0, requests - RECENT)
    drawn = np.random.default_rng([seed, requests]).permutation(older)[: math.ceil(OLDER_SHARE * older)]
    return tuple(sorted({*drawn.tolist(), *range(older, requests), *(at for at in always if 0 <= at < requests)}))
