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

import torch
from torch import Tensor

from workers.batches import Encoded, Row, collate, in_order_of_length
from workers.methods.head import Head, hidden_states, live_head
from workers.methods.tokens import predicted_tokens

BATCH_ROWS = 32
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


def score(llm: Any, items: Sequence[Sequence[Encoded]], pad_id: int, batch_rows: int = BATCH_ROWS) -> list[Score]:
    """One Score per item. The windows of an item are read as one answer; an item needs a labelled token."""
    rows = [
        Row(key, window)
        for key, window in enumerate(window for item in items for window in item)
        if window.labelled_tokens
    ]
    found: dict[int, tuple[list[float], list[bool]]] = {}
    for batch_of_rows in in_order_of_length(rows, batch_rows):
        found.update(_score_rows(llm, batch_of_rows, pad_id))
    scores, key = [], 0
    for item in items:
        parts = [found[at] for at in range(key, key + len(item)) if at in found]
        key += len(item)
        scores.append(summarise([p for part in parts for p in part[0]], [h for part in parts for h in part[1]]))
    return scores


@torch.no_grad()
def _score_rows(llm: Any, rows: Sequence[Row], pad_id: int) -> dict[int, tuple[list[float], list[bool]]]:
    batch = collate(rows, pad_id, llm.device)
    tokens = predicted_tokens(batch.labels_BT)
    hidden_BTD = hidden_states(llm, batch.ids_BT, batch.mask_BT)
    hidden_ND = hidden_BTD[tokens.rows_N, tokens.columns_N]
    logp_N, hit_N = label_log_probabilities(live_head(llm), hidden_ND, tokens.targets_N)
    answers: dict[int, tuple[list[float], list[bool]]] = {row.key: ([], []) for row in rows}
    for row, logp, hit in zip(tokens.rows_N.tolist(), logp_N.tolist(), hit_N.tolist(), strict=True):
        answers[rows[row].key][0].append(logp)
        answers[rows[row].key][1].append(hit)
    return answers


def label_log_probabilities(head: Head, hidden_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """(ln p(label), argmax is label) of each token, V-wide logits in chunks only."""
    logp, hits = [], []
    for hidden_nD, targets_n in zip(hidden_ND.split(CHUNK_TOKENS), targets_N.split(CHUNK_TOKENS), strict=True):
        logits_nV = head(hidden_nD).float()
        label_n = logits_nV.gather(1, targets_n.unsqueeze(1)).squeeze(1)
        logp.append(label_n - logits_nV.logsumexp(1))
        hits.append(logits_nV.argmax(1) == targets_n)
    return torch.cat(logp), torch.cat(hits)
