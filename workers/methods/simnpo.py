"""SimNPO (Fan et al., NeurIPS 2025, arXiv:2410.07163): NPO without a reference, by the answer's mean NLL.

    L = -(2/β)·Σ_i w_i·log σ(β·NLL_i / |y_i| - δ) / Σ_i w_i over the forget rows i

The margin δ is subtracted after the multiplication by β, as the paper prints it; its released code and others'
compute β·(NLL/|y| - δ), which is this with β·δ. The two agree at the default, 0. |y| counts the labelled tokens that
are predicted. The published weights, 0.125 on forgetting and 1 on the retain rows, are a `retain_weight` of 8.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from workers.methods.answers import answers, weighted_mean
from workers.methods.interface import Batch, Method
from workers.methods.retain_term import RetainKind, RetainTerm
from workers.methods.two_terms import TwoTerms


def simnpo_loss(nll_B: Tensor, tokens_B: Tensor, weights_B: Tensor, beta: float, margin: float) -> Tensor:
    """The equation above; `nll_B` in nats, summed over each answer of `tokens_B` tokens."""
    mean_B = nll_B / tokens_B.clamp(min=1.0)
    return weighted_mean(-2.0 / beta * F.logsigmoid(beta * mean_B - margin), weights_B)


class SimpleNegativePreference:
    def __init__(self, beta: float, margin: float) -> None:
        self._beta, self._margin = beta, margin

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:
        """Nothing to keep: there is no reference."""

    def loss(self, student: Any, batch: Batch) -> Tensor:
        found = answers(student, batch)
        return simnpo_loss(found.of_rows(), found.lengths(), found.weights_B, self._beta, self._margin)

    def weight(self, batch: Batch) -> float:
        return batch.row_weight


def make_simnpo(
    *, beta: float = 4.5, margin: float = 0.0, retain_kind: RetainKind = "nll", retain_weight: float = 8.0
) -> Method:
    return TwoTerms(SimpleNegativePreference(beta, margin), RetainTerm(retain_kind, retain_weight))
