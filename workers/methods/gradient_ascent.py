"""Gradient ascent (Jang et al., ACL 2023, arXiv:2210.01504; Yao et al., ACL 2024, arXiv:2402.15159): unlearn
by climbing the loss that was descended in training.

    L = -Σ_n w_n·min(-log p(label_n), c) / Σ_n w_n over the labelled tokens of the forget rows

The published loss has c = ∞: it has no lowest point, and takes the LLM to ruin if nobody stops it. Here c is
`ceiling` times the surprise of a never-trained answer, -log(level): a token pushed so far gets no more gradient.
"""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workers.methods.answers import answers, weighted_mean
from workers.methods.interface import Batch, Method
from workers.methods.retain_term import RetainTerm
from workers.methods.two_terms import TwoTerms

MOST_LEVEL = 0.1


def ascent_loss(nll_N: Tensor, weights_N: Tensor, most_nll: float) -> Tensor:
    """Minus the weighted mean surprise, each token's counted up to `most_nll` nats."""
    return -weighted_mean(nll_N.clamp(max=most_nll), weights_N)


def most_surprise(ceiling: float | None, level: float) -> float:
    """c in nats; infinite for None. A level above MOST_LEVEL counts as that: tokens that are easily guessed must still
    be able to leave the first place.
    """
    return math.inf if ceiling is None else ceiling * -math.log(min(level, MOST_LEVEL))


class Ascent:
    """The forget term of gradient ascent, alone or beside descent or KL on retain rows."""

    def __init__(self, ceiling: float | None) -> None:
        self._ceiling = ceiling
        self._most_nll = math.inf

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:  # noqa: ARG002 - no teacher needed
        self._most_nll = most_surprise(self._ceiling, level)

    def loss(self, student: Any, batch: Batch) -> Tensor:
        found = answers(student, batch)
        return ascent_loss(found.nll_N, found.weights_N, self._most_nll)

    def weight(self, batch: Batch) -> float:
        return batch.token_weight


def make_gradient_ascent(*, ceiling: float | None = 2.0) -> Method:
    return TwoTerms(Ascent(ceiling), RetainTerm("none", 0.0))
