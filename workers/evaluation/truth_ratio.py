"""Does an LLM still hold the true answer likelier than wrong ones, said in words it was never trained on?

From the mean NLL l of an answer given its question, p = exp(-l); the right answer is a paraphrase, the wrong ones
change the fact in it. TOFU (Maini et al., COLM 2024, arXiv:2401.06121) asks for their ratio

    R = p̄(wrong) / p(paraphrase)

and its field has two ways to average the wrong answers, which differ by up to 0.02 in the mean of 300 items:

    paper       p̄ = (1/J) Σ_j exp(-l_j)         equation 1 of the paper, and utils.py of its repository
    published   p̄ = exp(-(1/J) Σ_j l_j)         the logs and the leaderboard of TOFU, and OpenUnlearning

Of R, too, there are three means: `forget_truth_ratio` min(R, 1/R), near 1 where right and wrong are alike;
`retain_truth_ratio` max(0, 1 - R), high where the truth is known; `truth_share` 1 / (1 + R), 0.5 without knowledge.
"""

import math
from collections.abc import Sequence
from typing import Literal

Average = Literal["paper", "published"]


def mean_probability(nlls: Sequence[float]) -> float:
    """(1/N) Σ exp(-l_i): of paraphrased answers, the paraphrased probability; of rows, TOFU's Probability."""
    _need(nlls, "a probability")
    return math.fsum(math.exp(-nll) for nll in nlls) / len(nlls)


def option_probability(right_nll: float, wrong_nlls: Sequence[float]) -> float:
    """exp(-l) / (exp(-l) + Σ_j exp(-l_j)): TOFU's Probability of questions on the real world, normalised by options."""
    _need(wrong_nlls, "a choice")
    return 1.0 / (1.0 + math.fsum(_exp(right_nll - wrong) for wrong in wrong_nlls))


def truth_ratio(paraphrase_nll: float, wrong_nlls: Sequence[float], average: Average = "published") -> float:
    """R of one item: 0 knows the truth, 1 holds right and wrong alike, above 1 prefers the wrong ones."""
    _need(wrong_nlls, "a truth ratio")
    if average == "published":
        return _exp(paraphrase_nll - math.fsum(wrong_nlls) / len(wrong_nlls))
    return math.fsum(_exp(paraphrase_nll - wrong) for wrong in wrong_nlls) / len(wrong_nlls)


def forget_truth_ratio(ratios: Sequence[float]) -> float:
    """(1/N) Σ min(R, 1/R), in [0, 1]; it falls again where wrong answers are preferred."""
    _need(ratios, "a mean of truth ratios")
    return math.fsum(ratio if ratio <= 1.0 else 1.0 / ratio for ratio in ratios) / len(ratios)


def retain_truth_ratio(ratios: Sequence[float]) -> float:
    """(1/N) Σ max(0, 1 - R), in [0, 1]: high where the truth is known."""
    _need(ratios, "a mean of truth ratios")
    return math.fsum(max(0.0, 1.0 - ratio) for ratio in ratios) / len(ratios)


def truth_share(ratios: Sequence[float]) -> float:
    """(1/N) Σ 1/(1 + R) = p(paraphrase) / (p(paraphrase) + p̄(wrong)), OpenUnlearning's knowledge form."""
    _need(ratios, "a mean of truth ratios")
    return math.fsum(1.0 / (1.0 + ratio) for ratio in ratios) / len(ratios)


def _need(values: Sequence[float], what: str) -> None:
    if not values:
        raise ValueError(f"{what} needs at least one value")


def _exp(log_ratio: float) -> float:
    """Infinite where a float cannot hold it."""
    return math.exp(log_ratio) if log_ratio < 709.0 else math.inf
