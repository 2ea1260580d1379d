"""Adversarial samples (Yao et al., ACL 2024, arXiv:2402.15159): learn the likeliest wrong token instead.

    L = Σ_n w_n·(-log p(a_n)) / Σ_n w_n,   a_n = argmax_{v ≠ label_n} p_teacher(v | what precedes label_n)

Found once, by the LLM as it was. The published code reads the argmax one position late, so that it teaches the
guess for the token after; here a_n comes from the very logits that predict label_n.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workers.methods.answers import label_nlls, states, weighted_mean
from workers.methods.chunks import CHUNK_TOKENS
from workers.methods.head import Head, live_head
from workers.methods.interface import Batch, Method
from workers.methods.retain_term import RetainTerm
from workers.methods.two_terms import TwoTerms


def likeliest_other(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """argmax over v ≠ target, (N,). Ties go to the smaller id."""
    return logits_NV.scatter(1, targets_N.unsqueeze(1), -torch.inf).argmax(1)


class LikeliestOther:
    def __init__(self) -> None:
        self._labels: dict[int, Tensor] = {}

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:  # noqa: ARG002 - no level needed
        for batch in batches:
            with torch.no_grad():
                found = states(teacher, batch)
                others_N = _others(live_head(teacher), found.hidden_ND, found.targets_N)
            for row, key in enumerate(batch.keys):
                self._labels[key] = others_N[found.rows_N == row].cpu()

    def labels(self, batch: Batch) -> Tensor:
        """Row-major over the labelled tokens, as `states` counts them."""
        return torch.cat([self._labels[key] for key in batch.keys]).to(batch.ids_BT.device)

    def loss(self, student: Any, batch: Batch) -> Tensor:
        found = states(student, batch)
        nll_N = label_nlls(found.hidden_ND, live_head(student), self.labels(batch))
        return weighted_mean(nll_N, found.weights_N)

    def weight(self, batch: Batch) -> float:
        return batch.token_weight


def _others(head: Head, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
    pieces = zip(hidden_ND.split(CHUNK_TOKENS), targets_N.split(CHUNK_TOKENS), strict=True)
    return torch.cat([likeliest_other(head(hidden_nD).float(), targets_n) for hidden_nD, targets_n in pieces])


def make_adversarial_labels() -> Method:
    return TwoTerms(LikeliestOther(), RetainTerm("none", 0.0))
