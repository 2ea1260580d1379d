"""How sure is a rate of independent items? Two-sided intervals and tails, exact where counts are small."""

import math
from collections.abc import Callable
from statistics import NormalDist

CONFIDENCE = 0.95


def wilson(hits: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of a rate: (p̂ + z²/2n ± z·sqrt(p̂(1-p̂)/n + z²/4n²)) / (1 + z²/n)."""
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


def _check_counts(hits: int, trials: int) -> None:
    if trials < 1 or not 0 <= hits <= trials:
        raise ValueError(f"a rate needs 0 <= hits <= trials and trials >= 1, not {hits} of {trials}")


def _bisect(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
