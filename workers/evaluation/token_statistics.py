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

from workers.batches import Encoded
from workers.evaluation.teacher_forcing import BATCH_ROWS, read_labels

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
    label_N = logp_NV.gather(1, targets_N.unsqueeze(1)).squeeze(1)
    mean_N, deviation_N = mean_and_deviation(logp_NV)
    plain = decoding == PLAIN_SAMPLING
    return LabelStatistics(
        log_probabilities_N=label_N,
        hits_N=logits_NV.argmax(1) == targets_N,
        means_N=mean_N,
        deviations_N=deviation_N,
        decoded_N=label_N if plain else decoding_log_probabilities(logits_NV, targets_N, decoding),
    )


def token_statistics(
    llm: Any,
    items: Sequence[Sequence[Encoded]],
    pad_id: int,
    *,
    decoding: Decoding = PLAIN_SAMPLING,
    batch_rows: int = BATCH_ROWS,
    most_tokens: int | None = None,
) -> list[TokenStatistics]:
    """One per item; the windows of an item are read as one answer. Raises ValueError for one without a label."""

    def reader(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, ...]:
        found = label_statistics(logits_NV, targets_N, decoding)
        return found.log_probabilities_N, found.hits_N, found.means_N, found.deviations_N, found.decoded_N

    lines = read_labels(
        llm, items, pad_id, reader, chunk_tokens=CHUNK_TOKENS, batch_rows=batch_rows, most_tokens=most_tokens
    )
    return [TokenStatistics(*zip(*line, strict=True)) for line in lines]
