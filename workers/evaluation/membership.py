"""Could somebody tell from an LLM's answers that a row was in its training data?

Scores of one item, from ln p_t of its T tokens; in all of them **lower means more like a member**:

    loss        l = -(1/T) Σ_t ln p_t                                     (Yeom et al. 2018)
    zlib        l / bytes of the zlib-compressed text                     (Carlini et al., USENIX Security 2021)
    Min-K %     -mean of the k % lowest ln p_t                            (Shi et al., ICLR 2024, arXiv:2310.16789)
    Min-K %++   -mean of the k % lowest (ln p_t - μ_t) / σ_t              (Zhang et al., ICLR 2025, arXiv:2404.02936)
    reference   l - l_ref, l_ref from an LLM that never saw the row       (Watson et al., ICLR 2022, arXiv:2111.08440)

The attack says *member* below a threshold. Against rows that were never trained on:

    AUC          chance that a member scores below a non-member, ties counting half: 1 all told, 0.5 nobody could,
                 below 0.5 the members stand out by being too unlikely
    TPR at FPR   share of the members told at the best threshold that accuses at most that share of the non-members;
                 items of equal score are told together or not at all, so ties never help the attack

An AUC of 0.5 is the aim only if the non-members could as well have been the members. Published signs differ: MUSE turns
them round.
"""

import bisect
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

K_SHARE = 0.4  # OpenUnlearning and MUSE
LEAST_DEVIATION = 1e-3  # OpenUnlearning clamps σ² at 1e-6
FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)
FALSE_POSITIVES_NEEDED = 10


@dataclass(frozen=True, slots=True)
class RateAtLowFalsePositives:
    """`resolved`: enough non-members for ten of them at this rate; below that the threshold hangs on a few items."""

    false_positive_rate: float
    true_positive_rate: float
    resolved: bool


@dataclass(frozen=True, slots=True)
class Attack:
    """What one score gives away about a set of members."""

    auc: float
    at_low_false_positives: tuple[RateAtLowFalsePositives, ...]


def loss_score(log_probabilities: Sequence[float]) -> float:
    """Mean NLL in nats."""
    _need(log_probabilities)
    return -math.fsum(log_probabilities) / len(log_probabilities)


def zlib_score(log_probabilities: Sequence[float], text: str) -> float:
    """Nats per token and compressed byte: what is unlikely only for being no language counts less.

    `text` is what the tokens spell. Sizes are of this machine's zlib at its default level: compare within one run.
    """
    return loss_score(log_probabilities) / len(zlib.compress(text.encode()))


def min_k_score(log_probabilities: Sequence[float], share: float = K_SHARE) -> float:
    """-mean of the lowest max(1, ⌊share·T⌋): a row never seen has some words nobody would expect."""
    return -_lowest_mean(log_probabilities, share)


def min_k_plus_plus_score(
    log_probabilities: Sequence[float], means: Sequence[float], deviations: Sequence[float], share: float = K_SHARE
) -> float:
    """The same of ln p_t standardised by how ln p(v) lies for v drawn from p; see `token_statistics`."""
    three = zip(log_probabilities, means, deviations, strict=True)
    return -_lowest_mean([(logp - mean) / max(sigma, LEAST_DEVIATION) for logp, mean, sigma in three], share)


def reference_score(log_probabilities: Sequence[float], reference_log_probabilities: Sequence[float]) -> float:
    """l - l_ref in nats per token, each over its own tokens: how hard the row is for anybody is taken off."""
    return loss_score(log_probabilities) - loss_score(reference_log_probabilities)


def auc(members: Sequence[float], non_members: Sequence[float]) -> float:
    """P(member < non-member) + P(equal) / 2. O(n log n)."""
    _need(members)
    _need(non_members)
    others = sorted(non_members)
    halves = sum(2 * len(others) - bisect.bisect_left(others, x) - bisect.bisect_right(others, x) for x in members)
    return halves / (2 * len(members) * len(others))


def true_positive_rate(members: Sequence[float], non_members: Sequence[float], false_positive_rate: float) -> float:
    """Share of members below the (⌊FPR·n⌋ + 1)-th lowest of n non-members: no threshold tells more within the FPR."""
    _need(members)
    _need(non_members)
    if not 0.0 <= false_positive_rate < 1.0:
        raise ValueError(f"a false-positive rate is at least 0 and below 1, not {false_positive_rate}")
    threshold = sorted(non_members)[_floor(false_positive_rate * len(non_members))]
    return sum(one < threshold for one in members) / len(members)


def attack(
    members: Sequence[float], non_members: Sequence[float], rates: Sequence[float] = FALSE_POSITIVE_RATES
) -> Attack:
    """AUC, and the true-positive rate at each false-positive rate, of one score on two sets of items."""
    low = [
        RateAtLowFalsePositives(
            rate, true_positive_rate(members, non_members, rate), len(non_members) * rate >= FALSE_POSITIVES_NEEDED
        )
        for rate in rates
    ]
    return Attack(auc(members, non_members), tuple(low))


def _lowest_mean(values: Sequence[float], share: float) -> float:
    _need(values)
    if not 0.0 < share <= 1.0:
        raise ValueError(f"the share of the lowest must be above 0 and at most 1, not {share}")
    lowest = sorted(values)[: max(1, _floor(share * len(values)))]
    return math.fsum(lowest) / len(lowest)


def _floor(count: float) -> int:
    """0.29 · 100 is 29, not 28."""
    return math.floor(count + 1e-9)


def _need(values: Sequence[float]) -> None:
    if not values or any(math.isnan(value) for value in values):
        raise ValueError("scores need at least one value, each of them a number")
