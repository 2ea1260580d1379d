"""Weighted gradient ascent (Wang et al., ICLR 2025, arXiv:2502.19301): ascent that lets go of what is forgotten.

    L = -Σ_n w_n·p_n^β·(-log p_n) / Σ_n w_n,   p_n = p(label_n), its power without a gradient

Each token's gradient is ascent's times p^β, which vanishes with p: no ceiling is needed, unlike in gradient_ascent.py.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workers.methods.answers import answers, weighted_mean
from workers.methods.interface import Batch, Method
from workers.methods.retain_term import RetainKind, RetainTerm
from workers.methods.two_terms import TwoTerms


def wga_loss(nll_N: Tensor, weights_N: Tensor, beta: float) -> Tensor:
    """The equation above, from -log p of each token."""
    confidence_N = (-beta * nll_N.detach()).exp()
    return -weighted_mean(confidence_N * nll_N, weights_N)


class WeightedAscent:
    def __init__(self, beta: float) -> None:
        self._beta = beta

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:
        """Nothing to keep: the weights are the student's own."""

    def loss(self, student: Any, batch: Batch) -> Tensor:
        found = answers(student, batch)
        return wga_loss(found.nll_N, found.weights_N, self._beta)

    def weight(self, batch: Batch) -> float:
        return batch.token_weight


def make_wga(*, beta: float = 1.0, retain_kind: RetainKind = "none", retain_weight: float = 1.0) -> Method:
    return TwoTerms(WeightedAscent(beta), RetainTerm(retain_kind, retain_weight))
