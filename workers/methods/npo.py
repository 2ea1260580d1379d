"""Negative preference optimisation (Zhang et al., COLM 2024, arXiv:2404.05868): the forget answer is the loser of a
preference pair without a winner.

    L = -(2/β)·Σ_i w_i·log σ(β·(NLL_i - NLL_i⁰)) / Σ_i w_i over the forget rows i, NLL_i = -log p(answer_i | prompt_i)
    ∇L = -2·Σ_i w_i·σ(-β·(NLL_i - NLL_i⁰))·∇NLL_i / Σ_i w_i

So it is ascent on each answer's whole NLL, with a weight that falls from 1 towards 0 as the answer is forgotten;
β → 0 is plain ascent. NLL⁰ is the LLM as it was: one number a row, kept from the start. The released MUSE code takes
log σ of every logit's difference instead; numbers published for that are not this method's.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from workers.methods.answers import ReferenceAnswers, answers, weighted_mean
from workers.methods.interface import Batch, Method
from workers.methods.retain_term import RetainKind, RetainTerm
from workers.methods.two_terms import TwoTerms


def npo_loss(nll_B: Tensor, reference_B: Tensor, weights_B: Tensor, beta: float) -> Tensor:
    """The equation above; NLLs in nats, summed over each answer."""
    return weighted_mean(-2.0 / beta * F.logsigmoid(beta * (nll_B - reference_B)), weights_B)


class NegativePreference:
    def __init__(self, beta: float) -> None:
        self._beta = beta
        self._reference: ReferenceAnswers | None = None

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:  # noqa: ARG002 - no level needed
        self._reference = ReferenceAnswers(teacher, batches)

    def loss(self, student: Any, batch: Batch) -> Tensor:
        if self._reference is None:
            raise RuntimeError("prepare must be called before loss: NPO compares with the LLM as it was")
        found = answers(student, batch)
        return npo_loss(found.of_rows(), self._reference.of_rows(batch), found.weights_B, self._beta)

    def weight(self, batch: Batch) -> float:
        return batch.row_weight


def make_npo(*, beta: float = 0.1, retain_kind: RetainKind = "nll", retain_weight: float = 1.0) -> Method:
    return TwoTerms(NegativePreference(beta), RetainTerm(retain_kind, retain_weight))
