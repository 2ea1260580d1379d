"""Random labels (Yao et al., ACL 2024, arXiv:2402.15159; after Golatkar et al., CVPR 2020): learn noise instead.

    L = Σ_n w_n·(-log p(a_n)) / Σ_n w_n,   a_n uniform over the words other than label_n, drawn once by the seed

Their draw may hit the true token and special ones; this one cannot. The inputs stay as they are. The loop brings
the drawn labels as the batch's `alternative`, since only a tokenizer knows which ids are words.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workers.methods.answers import answers, weighted_mean
from workers.methods.interface import Batch, Method
from workers.methods.retain_term import RetainTerm
from workers.methods.tokens import UNLABELLED
from workers.methods.two_terms import TwoTerms


def draw_labels(labels: Sequence[int], words: Sequence[int], generator: torch.Generator) -> tuple[int, ...]:
    """For each label another id of `words` (ascending, distinct), all equally likely; UNLABELLED stays."""
    if len(set(words)) < 2:
        raise ValueError("random labels need a vocabulary of at least two words that are not special tokens")
    return tuple(UNLABELLED if label == UNLABELLED else _other(label, words, generator) for label in labels)


def _other(label: int, words: Sequence[int], generator: torch.Generator) -> int:
    # Drawing again instead of skipping the label keeps the rest uniform; at worst half the draws are in vain.
    while True:
        drawn = words[int(torch.randint(len(words), (1,), generator=generator))]
        if drawn != label:
            return drawn


class Noise:
    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:
        """Nothing to keep: the labels come with the batches."""

    def loss(self, student: Any, batch: Batch) -> Tensor:
        if batch.alternative is None:
            raise ValueError("random labels need batches whose `alternative` holds the drawn labels")
        found = answers(student, batch.alternative)
        return weighted_mean(found.nll_N, found.weights_N)

    def weight(self, batch: Batch) -> float:
        return batch.token_weight


def make_random_labels() -> Method:
    return TwoTerms(Noise(), RetainTerm("none", 0.0))
