"""Forgetting many times in a row: has anything come back, and how much of the LLM is left?

    ρ[i, j]        residual of request i after request j ≥ i (NaN before it, and where it was not asked again)
    e[i, j]        ρ[i, j] - ρ[i, i]: above 0, request i re-emerges; a later update is a relearning step for it
    BW_j           mean of e[i, j] over i < j
    loss_j         utility of the first version - utility after request j, each component by itself

Utility is held against the first version of the sequence: 1 % of it a request, each held against the one before,
would let 0.99⁵⁰ = 61 % pass. A budget for the whole sequence says when to train again from the start.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from workers.evaluation.quantiles import t_quantile
from workers.evaluation.variance_components import Floats

RECENT = 10
OLDER_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Reemergence:
    """After the last request. `upper` bounds the mean of e one-sided, its requests taken as independent; infinite
    with fewer than two of them. `worst` is the request with the largest e.
    """

    requests: int
    mean: float
    upper: float
    largest: float
    worst: int
    outcome: Literal["pass", "review", "reject"]


@dataclass(frozen=True, slots=True)
class Spent:
    """One component against its budget; `requests_left` at the mean loss so far, None if nothing was lost."""

    loss: float
    budget: float
    requests_left: int | None
    outcome: Literal["pass", "review", "reject"]


def reemergence_matrix(residuals: ArrayLike) -> Floats:
    """e from a square ρ: 0 on the diagonal, NaN below it and where ρ is NaN. A request that was asked again must have
    been measured at its own time.
    """
    rho = np.asarray(residuals, dtype=np.float64)
    if rho.ndim != 2 or rho.shape[0] != rho.shape[1]:
        raise ValueError(f"residuals must be square, requests by requests, not {rho.shape}")
    later = np.triu(np.ones(rho.shape, dtype=bool))
    own = np.diag(rho)
    if (np.isnan(own)[:, None] & later & ~np.isnan(rho)).any():
        raise ValueError("residuals hold a request asked again that was not measured at its own time")
    return np.where(later, rho - own[:, None], np.nan)


def backward_scores(residuals: ArrayLike) -> Floats:
    """BW_j of every request, over the earlier ones asked again; NaN where there were none, as at the first."""
    e = reemergence_matrix(residuals)
    earlier = np.triu(~np.isnan(e), 1)
    counts = earlier.sum(0)
    sums = np.where(earlier, e, 0.0).sum(0)
    return np.divide(sums, counts, out=np.full(len(e), np.nan), where=counts > 0)


def reemergence(
    residuals: ArrayLike, *, accept: float = 0.05, reject: float = 0.10, confidence: float = 0.95
) -> Reemergence | None:
    """What the last request brought back of the earlier ones, judged by the largest e; None if none was asked again."""
    last = reemergence_matrix(residuals)[:-1, -1]
    asked = np.flatnonzero(~np.isnan(last))
    if len(asked) == 0:
        return None
    e = last[asked]
    upper = math.inf
    if len(e) > 1:
        upper = float(e.mean() + t_quantile(confidence, len(e) - 1) * e.std(ddof=1) / math.sqrt(len(e)))
    largest = float(e.max())
    return Reemergence(
        len(e), float(e.mean()), upper, largest, int(asked[e.argmax()]), _outcome(largest, accept, reject)
    )


def utility_spent(
    first: Mapping[str, float], history: Sequence[Mapping[str, float]], *, budget: float = 0.02, reject: float = 0.04
) -> dict[str, Spent]:
    """Of each component, after the last request of `history`. More is better; a component is never averaged away."""
    if not history or any(set(step) != set(first) for step in history):
        raise ValueError("history needs at least one request, and in each the components of the first version")
    return {name: _spent(value - history[-1][name], len(history), budget, reject) for name, value in first.items()}


def _spent(loss: float, requests: int, budget: float, reject: float) -> Spent:
    left = None if loss <= 0.0 else max(0, math.floor((budget - loss) * requests / loss + 1e-9))
    return Spent(loss, budget, left, _outcome(loss, budget, reject))


def _outcome(value: float, accept: float, reject: float) -> Literal["pass", "review", "reject"]:
    """Up to `accept` it passes, beyond `reject` it does not; round-off decides neither."""
    return "pass" if value <= accept + 1e-12 else "review" if value <= reject + 1e-12 else "reject"


def to_ask_again(requests: int, always: Collection[int] = (), *, seed: int, every: int = 10) -> tuple[int, ...]:
    """Which earlier ones of so many requests (0 … requests-1) to measure now: all at every `every`-th, else the last
    ten, a fifth of the older ones by the seed, and those of `always`, such as requests about personal data.
    """
    if requests % every == 0:
        return tuple(range(requests))
    older = max(0, requests - RECENT)
    drawn = np.random.default_rng([seed, requests]).permutation(older)[: math.ceil(OLDER_SHARE * older)]
    return tuple(sorted({*drawn.tolist(), *range(older, requests), *(at for at in always if 0 <= at < requests)}))
