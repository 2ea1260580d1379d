"""How far does a planted random secret, a canary, stand out from secrets that might have been planted instead?

    exposure = log2 |S| - log2 rank(s)                        (Carlini et al., USENIX Security 2019, arXiv:1802.08232)

S are all fillings of the canary's random slot and rank 1 is the likeliest. Nobody scores all of S, so:

    by rank            S is the canary and m alternatives drawn like it: exact, and at most log2(m + 1) bits
    by distribution    -log2 P(X ≤ l), X a skew normal fitted to the alternatives' NLLs: an extrapolation beyond m, as
                       good as the fit

A canary never trained on has any of the m + 1 ranks with the same chance, so 2^-(exposure by rank) is a p-value: e bits
or more come by chance with probability 2^-e at most, and 1.44 bits on average. Alternatives that tie with the canary
count as likelier, which keeps the p-value valid. Neither a retrained LLM nor another control is needed.

The authors' code fits the skew normal by maximum likelihood. Here it has the alternatives' first three moments:
that is a closed form.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

LARGEST_SKEWNESS = 0.99  # of a skew normal it is below 0.9953
LEAST_ALTERNATIVES = 20  # a third moment of fewer says nothing
FIRST_U, LAST_U, NODES = -4.0, 6.0, 2001


@dataclass(frozen=True, slots=True)
class SkewNormal:
    """Density (2/ω) φ(z) Φ(αz), z = (x - ξ)/ω; Azzalini 1985. α = 0 is the normal distribution."""

    location: float
    scale: float
    shape: float


def exposure_by_rank(canary_nll: float, alternative_nlls: Sequence[float]) -> float:
    """log2(m + 1) - log2(1 + #{alternatives with l ≤ the canary's}), in bits, from 0 to log2(m + 1)."""
    _check(canary_nll, alternative_nlls, least=1)
    rank = 1 + sum(nll <= canary_nll for nll in alternative_nlls)
    return math.log2((len(alternative_nlls) + 1) / rank)


def exposure_by_distribution(canary_nll: float, alternative_nlls: Sequence[float]) -> float:
    """-log2 P(X ≤ canary's l) in bits, from 0 up. Fit it to 1,000 alternatives or more; below 20 it is refused."""
    _check(canary_nll, alternative_nlls, least=LEAST_ALTERNATIVES)
    return -log_cdf(canary_nll, fit_skew_normal(alternative_nlls)) / math.log(2.0)


def chance(exposures: Sequence[float]) -> float:
    """That canaries never trained on, each drawn by itself, show so many bits by rank in all: Fisher's (1932) method,

        p = 2^-E Σ_{k<n} (E ln 2)^k / k!,  E = Σ_i e_i

    which ranks, being whole, keep on the safe side. Of at least one exposure.
    """
    nats = math.log(2.0) * math.fsum(exposures)
    if nats == 0.0:
        return 1.0
    terms = (math.exp(k * math.log(nats) - nats - math.lgamma(k + 1)) for k in range(len(exposures)))
    return min(1.0, math.fsum(terms))


def fit_skew_normal(values: Sequence[float]) -> SkewNormal:
    """By the method of moments, with γ the skewness of the values, kept within ±0.99:

        δ² = (π/2) |γ|^(2/3) / (|γ|^(2/3) + ((4-π)/2)^(2/3)),  α = δ / sqrt(1 - δ²),  ω² = s² / (1 - 2δ²/π),
        ξ = mean - ωδ sqrt(2/π)

    Raises ValueError if all values are equal.
    """
    x_N = np.asarray(values, dtype=np.float64)
    mean, deviation = float(x_N.mean()), float(x_N.std())
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        raise ValueError("the alternatives are all equally likely: a distribution cannot be fitted to them")
    skewness = float((((x_N - mean) / deviation) ** 3).mean())
    skewness = max(-LARGEST_SKEWNESS, min(LARGEST_SKEWNESS, skewness))
    size = abs(skewness) ** (2 / 3)
    delta = math.copysign(math.sqrt(math.pi / 2 * size / (size + ((4 - math.pi) / 2) ** (2 / 3))), skewness)
    scale = deviation / math.sqrt(1 - 2 * delta**2 / math.pi)
    location = mean - scale * delta * math.sqrt(2 / math.pi)
    return SkewNormal(location, scale, delta / math.sqrt(1 - delta**2))


def log_cdf(x: float, distribution: SkewNormal) -> float:
    """ln P(X ≤ x) = ln ∫_0^∞ 2 φ(z - s) Φ(α(z - s)) ds, summed in logarithms, so that no tail is too thin.

    The double exponential rule (Takahasi and Mori 1974): s = exp(u - exp(-u)), then equal steps of u. It is dense at
    s = 0, where a thin tail has its mass, and needs no guess of how far to go.
    """
    z = (x - distribution.location) / distribution.scale
    u = torch.linspace(FIRST_U, LAST_U, NODES, dtype=torch.float64)
    log_s = u - (-u).exp()
    t = z - log_s.exp()
    log_density = math.log(2.0 / math.sqrt(2 * math.pi)) - t.square() / 2
    log_density = log_density + torch.special.log_ndtr(distribution.shape * t)
    log_step = math.log((LAST_U - FIRST_U) / (NODES - 1)) + log_s + torch.log1p((-u).exp())  # ds = s (1 + e^-u) du
    return min(0.0, float((log_density + log_step).logsumexp(0)))


def _check(canary_nll: float, alternative_nlls: Sequence[float], least: int) -> None:
    if len(alternative_nlls) < least:
        raise ValueError(f"{len(alternative_nlls)} alternatives are too few for an exposure: draw {least} or more")
    if not all(math.isfinite(nll) for nll in (canary_nll, *alternative_nlls)):
        raise ValueError("an NLL is not a finite number")
