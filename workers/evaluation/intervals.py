"""How sure is a rate or a mean? Two-sided intervals, exact where counts are small, clustered where items are not alone.

Items about one person are alike, so means are bootstrapped by subject. With a single subject only the items can be
resampled: such an interval says how the items vary, not how people do.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import torch
from torch import Tensor

RESAMPLES = 2000
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


def resample_counts(subjects: Sequence[int], seed: int, resamples: int = RESAMPLES) -> Tensor:
    """(resamples, items) float64: how often each item is drawn when whole subjects are drawn with replacement."""
    names = sorted(set(subjects))
    units = [names.index(subject) for subject in subjects] if len(names) > 1 else list(range(len(subjects)))
    count = max(units) + 1
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(count, (resamples, count), generator=generator)
    times = torch.zeros(resamples, count, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return times[:, torch.tensor(units)]


def resampled_means(values: Sequence[float], subjects: Sequence[int], seed: int) -> Tensor:
    """The item mean in each of the resamples, float64."""
    counts_RN = resample_counts(subjects, seed)
    return counts_RN @ torch.tensor(values, dtype=torch.float64) / counts_RN.sum(1)


def percentiles(resampled: Tensor, confidence: float = CONFIDENCE) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = torch.quantile(resampled, torch.tensor([tail, 1 - tail], dtype=resampled.dtype)).tolist()
    return low, high


def clustered_mean(values: Sequence[float], subjects: Sequence[int], seed: int) -> tuple[float, float, float]:
    """(mean, low, high) of the items, resampled by subject."""
    low, high = percentiles(resampled_means(values, subjects, seed))
    return math.fsum(values) / len(values), low, high


def _check_counts(hits: int, trials: int) -> None:
    if trials < 1 or not 0 <= hits <= trials:
        raise ValueError(f"a rate needs 0 <= hits <= trials and trials >= 1, not {hits} of {trials}")


def _bisect(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
