"""How surprised an LLM is by each labelled token: -log p(label), the one quantity most losses here are made of.

The head is applied to the labelled positions only, a chunk at a time, and every reduction is in fp32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from workers.methods.chunks import CHUNK_TOKENS, in_chunks
from workers.methods.head import Head, hidden_states, live_head
from workers.methods.interface import Batch
from workers.methods.tokens import predicted_tokens


@dataclass(frozen=True, slots=True)
class States:
    """The labelled tokens of a batch, row-major: final hidden state, label, row, and weight."""

    hidden_ND: Tensor
    targets_N: Tensor
    rows_N: Tensor
    weights_N: Tensor


@dataclass(frozen=True, slots=True)
class Answers:
    """-log p of the labelled tokens; `rows_N` says whose they are, `weights_B` is 0 for a row without any."""

    nll_N: Tensor
    rows_N: Tensor
    weights_N: Tensor
    weights_B: Tensor

    def of_rows(self) -> Tensor:
        """(B,): sum over each row's labelled tokens: -log p(answer | prompt)."""
        return torch.zeros_like(self.weights_B).index_add(0, self.rows_N, self.nll_N)

    def lengths(self) -> Tensor:
        """(B,): each row's labelled tokens."""
        return torch.zeros_like(self.weights_B).index_add(0, self.rows_N, torch.ones_like(self.nll_N))


def states(llm: Any, batch: Batch) -> States:
    tokens = predicted_tokens(batch.labels_BT)
    hidden_BTD = hidden_states(llm, batch.ids_BT, batch.mask_BT)
    hidden_ND = hidden_BTD[tokens.rows_N, tokens.columns_N]
    weights_N = batch.label_weights(tokens.rows_N, tokens.columns_N)
    return States(hidden_ND, tokens.targets_N, tokens.rows_N, weights_N)


def label_nlls(hidden_ND: Tensor, head: Head, targets_N: Tensor, chunk_tokens: int = CHUNK_TOKENS) -> Tensor:
    """-log p(label) of each token, (N,), fp32."""

    def part(hidden_nD: Tensor, targets_n: Tensor) -> Tensor:
        return F.cross_entropy(head(hidden_nD).float(), targets_n, reduction="none")

    return torch.cat(in_chunks(part, chunk_tokens, hidden_ND, targets_N))


def answers(llm: Any, batch: Batch, chunk_tokens: int = CHUNK_TOKENS) -> Answers:
    """With a graph, unless the caller is under no_grad."""
    found = states(llm, batch)
    labelled_B = torch.zeros_like(batch.weights_B).index_fill(0, found.rows_N, 1.0)
    nll_N = label_nlls(found.hidden_ND, live_head(llm), found.targets_N, chunk_tokens)
    return Answers(nll_N, found.rows_N, found.weights_N, batch.weights_B * labelled_B)


def weighted_mean(values_N: Tensor, weights_N: Tensor) -> Tensor:
    """Σ w·x / Σ w."""
    return (values_N * weights_N).sum() / weights_N.sum()


class ReferenceAnswers:
    """-log p(answer) of each row under the LLM as it was: one number a row, so no second LLM stays in memory."""

    def __init__(self, llm: Any, batches: Sequence[Batch], chunk_tokens: int = CHUNK_TOKENS) -> None:
        self._nll: dict[int, float] = {}
        for batch in batches:
            with torch.no_grad():
                nll_B = answers(llm, batch, chunk_tokens).of_rows()
            self._nll |= dict(zip(batch.keys, nll_B.tolist(), strict=True))

    def of_rows(self, batch: Batch) -> Tensor:
        """(B,), in the batch's order."""
        return torch.tensor([self._nll[key] for key in batch.keys], device=batch.ids_BT.device)
