"""CE-U (Yang, 2025, arXiv:2503.01224): cross-entropy unlearning, UnDIAL with γ = ∞ and oneself as the teacher.

    L = Σ_n w_n·CE(q_n, p_n) / Σ_n w_n,   q_n = stop-gradient of softmax(z_n with z_n(label_n) = -∞)
    ∂CE_n/∂z(label) = p(label),   ∂CE_n/∂z(v) = -p(label)·q(v) for v ≠ label

The gradient dies with the label's probability, so nothing blows up; but the other words have no anchor, since the
target moves with the student. `skip_first` leaves the first token of an answer of several alone, as published: it is
often a word like "The".
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workers.methods.answers import states, weighted_mean
from workers.methods.chunks import CHUNK_TOKENS, in_chunks
from workers.methods.head import live_head
from workers.methods.interface import Batch, Method
from workers.methods.retain_term import RetainKind, RetainTerm
from workers.methods.soft_labels import soft_label_losses
from workers.methods.tokens import predicted_tokens
from workers.methods.two_terms import TwoTerms


def removed(odds_N: Tensor, _levels_N: Tensor) -> Tensor:
    """o' = -∞: the label keeps nothing."""
    return torch.full_like(odds_N, -torch.inf)


def ce_u_losses(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """CE of each token, (N,), fp32."""
    return soft_label_losses(logits_NV, logits_NV, targets_N, removed)


def after_the_first(rows_N: Tensor) -> Tensor:
    """1.0 for each token but the first of its row, (N,); 1.0 for the only token of a row. Row-major."""
    first_N = torch.ones_like(rows_N, dtype=torch.bool)
    first_N[1:] = rows_N[1:] != rows_N[:-1]
    last_N = torch.ones_like(first_N)
    last_N[:-1] = first_N[1:]
    return (~first_N | last_N).float()


class OneselfWithoutTheLabel:
    def __init__(self, *, skip_first: bool) -> None:
        self._skip_first = skip_first

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:
        """Nothing to keep: the student is its own teacher."""

    def loss(self, student: Any, batch: Batch) -> Tensor:
        found = states(student, batch)
        head = live_head(student)
        losses = in_chunks(
            lambda hidden_nD, targets_n: ce_u_losses(head(hidden_nD), targets_n),
            CHUNK_TOKENS,
            found.hidden_ND,
            found.targets_N,
        )
        return weighted_mean(torch.cat(losses), found.weights_N * self._counted(found.rows_N))

    def weight(self, batch: Batch) -> float:
        rows_N = predicted_tokens(batch.labels_BT).rows_N
        return float((batch.weights_B[rows_N] * self._counted(rows_N)).sum())

    def _counted(self, rows_N: Tensor) -> Tensor:
        return after_the_first(rows_N) if self._skip_first else torch.ones_like(rows_N, dtype=torch.float32)


def make_ce_u(*, skip_first: bool = False, retain_kind: RetainKind = "none", retain_weight: float = 1.0) -> Method:
    return TwoTerms(OneselfWithoutTheLabel(skip_first=skip_first), RetainTerm(retain_kind, retain_weight))
