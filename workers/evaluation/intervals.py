"""How sure is a rate of independent items? Two-sided intervals and tails, exact where counts are small."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
DEALS = 9999


def wilson(hits: float, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of a rate: (p̂ + z²/2n ± z·sqrt(p̂(1-p̂)/n + z²/4n²)) / (1 + z²/n).

    Of trials that are each hit in part as well: no share between 0 and 1 scatters more than p̂(1-p̂).
    """
    _check_counts(hits, trials)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, share = hits / trials, z * z / trials
    centre = rate + share / 2
    half = z * math.sqrt(rate * (1 - rate) / trials + share / (4 * trials))
    low = 0.0 if hits == 0 else (centre - half) / (1 + share)
    high = 1.0 if hits == trials else (centre + half) / (1 + share)
    return low, high


def clopper_pearson(hits: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval: the rates at which this count or fewer, or this count or more, has chance (1-confidence)/2."""
    _check_counts(hits, trials)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _bisect(lambda rate: binomial_tail(hits, trials, rate) - tail)
    high = 1.0 if hits == trials else _bisect(lambda rate: tail - (1 - binomial_tail(hits + 1, trials, rate)))
    return low, high


def binomial_tail(hits: int, trials: int, rate: float) -> float:
    """P(X ≥ hits) for X ~ Binomial(trials, rate)."""
    if hits <= 0:
        return 1.0
    if rate <= 0.0:
        return 0.0
    if rate >= 1.0:
        return 1.0
    log_odds = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(rate)
        + (trials - k) * math.log1p(-rate)
        for k in range(hits, trials + 1)
    ]
    return min(1.0, math.fsum(math.exp(term) for term in log_odds))


def exact_tail(hits: int, items: int, other_hits: int, other_items: int) -> float:
    """Fisher's exact test, one-sided: P(H ≥ hits), had all hits been dealt out over both groups by chance.

    H is hypergeometric: of items + other_items, hits + other_hits are drawn.
    """
    all_items, all_hits = items + other_items, hits + other_hits
    most = min(items, all_hits)
    ways = sum(math.comb(items, h) * math.comb(other_items, all_hits - h) for h in range(hits, most + 1))
    return ways / math.comb(all_items, all_hits)


def dealt_tail(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """P(mean ≥ that of `ours`), had the items of both groups been dealt out by chance, each with its share of hits.

    Fisher's exact test where every share is 0 or 1. Else DEALS are drawn, always the same, and counted with this one:
    as exact, if coarser.
    """
    if all(share in (0.0, 1.0) for share in (*ours, *theirs)):
        return exact_tail(round(math.fsum(ours)), len(ours), round(math.fsum(theirs)), len(theirs))
    shares, counts = np.unique(np.round([*ours, *theirs], 9), return_counts=True)
    dealt = np.random.default_rng(0).multivariate_hypergeometric(counts, len(ours), size=DEALS) @ shares
    return (1 + int((dealt >= math.fsum(ours) - 1e-6).sum())) / (DEALS + 1)


def _check_counts(hits: float, trials: int) -> None:
    if trials < 1 or not 0 <= hits <= trials:
        raise ValueError(f"a rate needs 0 <= hits <= trials and trials >= 1, not {hits} of {trials}")


def _bisect(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
