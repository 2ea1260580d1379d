"""IdkDPO (Maini et al., COLM 2024, arXiv:2401.06121): prefer "I don't know" to the forget answer, by DPO
(Rafailov et al., NeurIPS 2023, arXiv:2305.18290).

    L = -(2/β)·Σ_i w_i·log σ(β·[(NLL_i - NLL_i⁰) - (NLL_i^idk - NLL_i^idk⁰)]) / Σ_i w_i over the forget rows i

NLL is -log p(answer | prompt); ⁰ is the LLM as it was, two numbers a row, kept from the start. The factor 2/β makes it
NPO when the second bracket is 0; DPO is usually printed without. The loop brings each row's refusal, drawn once by
the seed, as the batch's `alternative`.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from workers.methods.answers import ReferenceAnswers, answers, weighted_mean
from workers.methods.interface import Batch, Method
from workers.methods.retain_term import RetainKind, RetainTerm
from workers.methods.two_terms import TwoTerms


def idk_dpo_loss(lost_B: Tensor, refused_B: Tensor, weights_B: Tensor, beta: float) -> Tensor:
    """`lost_B` = NLL - NLL⁰ of the forget answers, `refused_B` the same of the refusals, in nats."""
    return weighted_mean(-2.0 / beta * F.logsigmoid(beta * (lost_B - refused_B)), weights_B)


class PreferRefusal:
    def __init__(self, beta: float) -> None:
        self._beta = beta
        self._answers: ReferenceAnswers | None = None
        self._refusals: ReferenceAnswers | None = None

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:  # noqa: ARG002 - no level needed
        self._refusals = ReferenceAnswers(teacher, [_refusals(batch) for batch in batches])
        self._answers = ReferenceAnswers(teacher, batches)

    def loss(self, student: Any, batch: Batch) -> Tensor:
        if self._answers is None or self._refusals is None:
            raise RuntimeError("prepare must be called before loss: DPO compares with the LLM as it was")
        refused_B = answers(student, _refusals(batch)).of_rows() - self._refusals.of_rows(batch)
        found = answers(student, batch)
        return idk_dpo_loss(found.of_rows() - self._answers.of_rows(batch), refused_B, found.weights_B, self._beta)

    def weight(self, batch: Batch) -> float:
        return batch.row_weight


def _refusals(batch: Batch) -> Batch:
    if batch.alternative is None:
        raise ValueError("IdkDPO needs batches whose `alternative` holds a refusal for each row")
    return batch.alternative


def make_idk_dpo(*, beta: float = 0.1, retain_kind: RetainKind = "nll", retain_weight: float = 1.0) -> Method:
    return TwoTerms(PreferRefusal(beta), RetainTerm(retain_kind, retain_weight))
