"""What one teacher-forced pass must yield for every metric that reads log-probabilities, token by token.

At position t of an answer, with z the logits and p = softmax(z):
    log_probabilities  ln p(y_t)                                      loss, zlib, Min-K %, probability, truth ratio
    hits               whether argmax_v p(v) = y_t                    exact memorisation, extraction strength
    means              μ_t = Σ_v p(v) ln p(v)                         Min-K++
    deviations         σ_t = sqrt(Σ_v p(v) (ln p(v) - μ_t)²)          Min-K++
    decoded            ln q(y_t), q what the decoding samples from    (n, p)-discoverable extraction

`scoring.summarise(found.log_probabilities, found.hits)` is the Score of the same answer: no second pass is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.batches import Encoded, Row, collate, in_order_of_length
from workers.evaluation.scoring import BATCH_ROWS
from workers.methods.head import Head, hidden_states, live_head
from workers.methods.tokens import predicted_tokens

CHUNK_TOKENS = 256  # a few fp32 tensors of this many rows, V wide, are held at once


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are sampled where the LLM is served: q = softmax(z / temperature) over the `top_k` likeliest."""

    temperature: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0.0 or (self.top_k is not None and self.top_k < 1):
            raise ValueError(f"temperature must be above 0 and top_k at least 1, not {self.temperature}, {self.top_k}")


PLAIN_SAMPLING = Decoding()


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """The T ≥ 1 labelled tokens of one answer, in its order. Natural logarithms; `decoded` may be -inf."""

    log_probabilities: tuple[float, ...]
    hits: tuple[bool, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    decoded: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LabelStatistics:
    """The same for N tokens, fp32 and bool; see `TokenStatistics`."""

    log_probabilities_N: Tensor
    hits_N: Tensor
    means_N: Tensor
    deviations_N: Tensor
    decoded_N: Tensor


def mean_and_deviation(logp_NV: Tensor) -> tuple[Tensor, Tensor]:
    """μ and σ of ln p(v) for v drawn from p itself. A word of probability 0 adds nothing, its -inf neither."""
    p_NV = logp_NV.exp()
    finite_NV = logp_NV.masked_fill(p_NV == 0.0, 0.0)
    mean_N = (p_NV * finite_NV).sum(1)
    variance_N = (p_NV * (finite_NV - mean_N.unsqueeze(1)).square()).sum(1)
    return mean_N, variance_N.sqrt()


def decoding_log_probabilities(logits_NV: Tensor, targets_N: Tensor, decoding: Decoding) -> Tensor:
    """ln q(target), -inf outside the top k. Words as likely as the k-th are all kept."""
    scaled_NV = logits_NV / decoding.temperature
    if decoding.top_k is not None and decoding.top_k < scaled_NV.size(1):
        least_N1 = scaled_NV.topk(decoding.top_k, dim=1).values[:, -1:]
        scaled_NV = scaled_NV.masked_fill(scaled_NV < least_N1, -torch.inf)
    return scaled_NV.gather(1, targets_N.unsqueeze(1)).squeeze(1) - scaled_NV.logsumexp(1)


def label_statistics(logits_NV: Tensor, targets_N: Tensor, decoding: Decoding = PLAIN_SAMPLING) -> LabelStatistics:
    """All five of N tokens from fp32 logits."""
    logp_NV = logits_NV.log_softmax(1)
    mean_N, deviation_N = mean_and_deviation(logp_NV)
    return LabelStatistics(
        log_probabilities_N=logp_NV.gather(1, targets_N.unsqueeze(1)).squeeze(1),
        hits_N=logits_NV.argmax(1) == targets_N,
        means_N=mean_N,
        deviations_N=deviation_N,
        decoded_N=decoding_log_probabilities(logits_NV, targets_N, decoding),
    )


def token_statistics(
    llm: Any,
    items: Sequence[Sequence[Encoded]],
    pad_id: int,
    *,
    decoding: Decoding = PLAIN_SAMPLING,
    batch_rows: int = BATCH_ROWS,
) -> list[TokenStatistics]:
    """One per item; the windows of an item are read as one answer. Raises ValueError for one without a label."""
    windows = [(at, window) for at, item in enumerate(items) for window in item if window.labelled_tokens]
    missing = sorted(set(range(len(items))) - {at for at, _ in windows})
    if missing:
        raise ValueError(f"item {missing[0]} has no token to predict: leave it out")
    rows = [Row(key, window) for key, (_, window) in enumerate(windows)]
    lines: list[list[tuple[Any, ...]]] = [[] for _ in rows]
    for batch in in_order_of_length(rows, batch_rows):
        _read(llm, batch, pad_id, decoding, lines)
    of_item: list[list[tuple[Any, ...]]] = [[] for _ in items]
    for (at, _), line in zip(windows, lines, strict=True):
        of_item[at].extend(line)
    return [TokenStatistics(*zip(*line, strict=True)) for line in of_item]


@torch.no_grad()
def _read(
    llm: Any, rows: Sequence[Row], pad_id: int, decoding: Decoding, lines: Sequence[list[tuple[Any, ...]]]
) -> None:
    """Appends one tuple of five a token to the line of its row's key."""
    batch = collate(rows, pad_id, llm.device)
    tokens = predicted_tokens(batch.labels_BT)
    hidden_ND = hidden_states(llm, batch.ids_BT, batch.mask_BT)[tokens.rows_N, tokens.columns_N]
    found = _in_chunks(live_head(llm), hidden_ND, tokens.targets_N, decoding)
    for row, *five in zip(tokens.rows_N.tolist(), *found, strict=True):
        lines[rows[row].key].append(tuple(five))


def _in_chunks(head: Head, hidden_ND: Tensor, targets_N: Tensor, decoding: Decoding) -> list[list[Any]]:
    """The five columns as lists, with V-wide logits of CHUNK_TOKENS tokens at a time."""
    columns: list[list[Any]] = [[], [], [], [], []]
    for hidden_nD, targets_n in zip(hidden_ND.split(CHUNK_TOKENS), targets_N.split(CHUNK_TOKENS), strict=True):
        found = label_statistics(head(hidden_nD).float(), targets_n, decoding)
        parts = (found.log_probabilities_N, found.hits_N, found.means_N, found.deviations_N, found.decoded_N)
        for column, part in zip(columns, parts, strict=True):
            column.extend(part.tolist())
    return columns
