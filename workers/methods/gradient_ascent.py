"""Gradient ascent (Jang et al., ACL 2023, arXiv:2210.01504; Yao et al., ACL 2024, arXiv:2402.15159): unlearn
by climbing the loss that was descended in training.

    L = -Σ_n w_n·min(-log p(label_n), c_n) / Σ_n w_n over the labelled tokens of the forget rows

The published loss has c_n = ∞: it has no lowest point, and takes the LLM to ruin if nobody stops it. Here c_n is
`ceiling` times the surprise of a never-trained answer, -log(level), or of a never-trained label, -ℓ_n, where the row
says that (`workers/never_trained.py`) and it is more: a token pushed so far gets no more gradient.
"""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workers.methods.answers import answers, weighted_mean
from workers.methods.interface import Batch, Method
from workers.methods.retain_term import RetainTerm
from workers.methods.tokens import predicted_tokens
from workers.methods.two_terms import TwoTerms

MOST_LEVEL = 0.1


def ascent_loss(nll_N: Tensor, weights_N: Tensor, most_nll: float | Tensor) -> Tensor:
    """Minus the weighted mean surprise, each token's counted up to `most_nll` nats, one for all or its own."""
    return -weighted_mean(nll_N.clamp(max=most_nll), weights_N)


def most_surprise(ceiling: float | None, level: float) -> float:
    """c in nats; infinite for None. A level above MOST_LEVEL counts as that: tokens that are easily guessed must still
    be able to leave the first place.
    """
    return math.inf if ceiling is None else ceiling * -math.log(min(level, MOST_LEVEL))


def most_surprises(ceiling: float, levels_N: Tensor, most_nll: float) -> Tensor:
    """c_n: an item that stops at its own level must be able to get there. A level of 0 is not known."""
    return (ceiling * -levels_N).clamp(min=most_nll)


class Ascent:
    """The forget term of gradient ascent, alone or beside descent or KL on retain rows."""

    def __init__(self, ceiling: float | None) -> None:
        self._ceiling = ceiling
        self._most_nll = math.inf

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:  # noqa: ARG002 - no teacher needed
        self._most_nll = most_surprise(self._ceiling, level)

    def loss(self, student: Any, batch: Batch) -> Tensor:
        found = answers(student, batch)
        tokens = predicted_tokens(batch.labels_BT)
        levels_N = batch.label_levels(tokens.rows_N, tokens.columns_N)
        if self._ceiling is None or levels_N is None:
            return ascent_loss(found.nll_N, found.weights_N, self._most_nll)
        return ascent_loss(found.nll_N, found.weights_N, most_surprises(self._ceiling, levels_N, self._most_nll))

    def weight(self, batch: Batch) -> float:
        return batch.token_weight


def make_gradient_ascent(*, ceiling: float | None = 2.0) -> Method:
    return TwoTerms(Ascent(ceiling), RetainTerm("none", 0.0))
