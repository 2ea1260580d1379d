"""How well does an LLM know an item? One teacher-forced pass answers, from the probability of every labelled token.

With p_t the probability of label t of T, given everything before it:
    nll                  -(1/T) Σ ln p_t
    token_probability    exp(-nll), the geometric mean
    token_accuracy       share of t whose argmax is the label
    exact                all of them: greedy decoding would produce the answer whole
    extraction_strength  1 - k/T, k the shortest prefix after which every argmax is the label (Carlini et al. 2021)
    sampled_probability  Π p_t: the chance that one sample at temperature 1 is the answer
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from workers.batches import Encoded
from workers.evaluation.teacher_forcing import BATCH_ROWS, read_labels

CHUNK_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Score:
    tokens: int
    nll: float
    token_probability: float
    exact: bool
    token_accuracy: float
    extraction_strength: float
    sampled_probability: float


def extraction_strength(hits: Sequence[bool]) -> float:
    """1 - k/T over the T tokens of one answer; 0 if the last one misses, 1 if all hit. T must be at least 1."""
    suffix = 0
    for hit in reversed(hits):
        if not hit:
            break
        suffix += 1
    return suffix / len(hits)


def summarise(log_probabilities: Sequence[float], hits: Sequence[bool]) -> Score:
    """Natural logarithms of p_t, and whether the argmax was the label, in the order of the answer."""
    tokens = len(hits)
    total = math.fsum(log_probabilities)
    return Score(
        tokens=tokens,
        nll=-total / tokens,
        token_probability=math.exp(total / tokens),
        exact=all(hits),
        token_accuracy=sum(hits) / tokens,
        extraction_strength=extraction_strength(hits),
        sampled_probability=math.exp(total),
    )


def score(
    llm: Any,
    items: Sequence[Sequence[Encoded]],
    pad_id: int,
    batch_rows: int = BATCH_ROWS,
    *,
    most_tokens: int | None = None,
) -> list[Score]:
    """One Score per item. The windows of an item are read as one answer; ValueError for one without a label."""
    lines = read_labels(
        llm,
        items,
        pad_id,
        label_log_probabilities,
        chunk_tokens=CHUNK_TOKENS,
        batch_rows=batch_rows,
        most_tokens=most_tokens,
    )
    return [summarise(*zip(*line, strict=True)) for line in lines]


def label_log_probabilities(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """(ln p(label), argmax is label) of each token."""
    label_N = logits_NV.gather(1, targets_N.unsqueeze(1)).squeeze(1)
    return label_N - logits_NV.logsumexp(1), logits_NV.argmax(1) == targets_N
