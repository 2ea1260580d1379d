"""What does an LLM answer, greedily and when sampled? And does the answer hold what should be gone?

All questions of a batch are decoded together with a key-value cache: the prompt is read once for one greedy answer and
n sampled ones, and answers that have said the same so far stay one row of it until they part. Each question draws its
random numbers from its own seed, so an answer depends neither on the batch it was in nor on the padding (up to
round-off of the logits).
"""

import inspect
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.errors import Unsuitable
from workers.evaluation.whole_words import whole_words
from workers.layer_configs import layer_configs

MOST_ROWS = 1024
MOST_PROMPT_TOKENS = 2048  # read at once
CACHE_BYTES = {False: 2**25, True: 2**32}  # on the CPU, on a GPU
CACHE_SHARE = 0.25  # of the weights' bytes, if that is more: training held as much again of them


@dataclass(frozen=True, slots=True)
class Question:
    """Token ids of a prompt, how many tokens to answer with at most, and the seed of its samples."""

    ids: tuple[int, ...]
    max_new_tokens: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """Token ids without the end-of-text token."""

    greedy: tuple[int, ...]
    sampled: tuple[tuple[int, ...], ...]


def contains(answer: str, wanted: str) -> bool:
    """Whether `wanted` stands in `answer` word for word, not inside a longer word; never for an empty one.

    However it is spaced and encoded: "é" is one character or two, a digit may have the width of a Han one (NFKC).
    """
    return bool(whole_words(*(unicodedata.normalize("NFKC", text) for text in (answer, wanted))))


def decode(
    llm: Any,
    questions: Sequence[Question],
    *,
    samples: int,
    stop_ids: Sequence[int],
    pad_id: int,
    rows: int | None = None,
    on_answered: Callable[[int], None] = lambda _: None,
) -> list[Answers]:
    """`samples` answers at temperature 1 and one greedy one per question, `rows` rows at once (None: what fits).

    `on_answered` is told the number of questions of each finished batch; what it raises stops the decoding. Raises
    Unsuitable for an LLM without a key-value cache, such as Mamba.
    """
    if rows is None:
        rows = _rows_that_fit(llm, max((len(one.ids) + one.max_new_tokens for one in questions), default=1))
    longest = max((len(one.ids) for one in questions), default=1)
    per_batch = max(1, min(rows // (1 + samples), MOST_PROMPT_TOKENS // longest))
    by_length = sorted(range(len(questions)), key=lambda at: (len(questions[at].ids), at))
    found: dict[int, Answers] = {}
    for start in range(0, len(by_length), per_batch):
        chosen = by_length[start : start + per_batch]
        answers = _decode_batch(llm, [questions[at] for at in chosen], samples, stop_ids, pad_id)
        found.update(zip(chosen, answers, strict=True))
        on_answered(len(chosen))
    return [found[at] for at in range(len(questions))]


def _rows_that_fit(llm: Any, tokens: int) -> int:
    """Rows whose key-value cache, and a few V-wide rows beside it, take about CACHE_BYTES or CACHE_SHARE."""
    config = llm.config.get_text_config()
    cache_bytes = 2 * sum(map(_key_width, layer_configs(config))) * tokens * torch.finfo(llm.dtype).bits // 8
    words_bytes = 4 * 4 * config.vocab_size  # fp32 logits, softmax, cumulative sum, one copy
    weights_bytes = sum(one.numel() * one.element_size() for one in llm.parameters())
    budget_bytes = max(CACHE_BYTES[llm.device.type == "cuda"], int(CACHE_SHARE * weights_bytes))
    return max(1, min(MOST_ROWS, budget_bytes // (cache_bytes + words_bytes)))


def _key_width(layer: Any) -> int:
    """Numbers of a token's keys in one layer; of a layer without attention it is as good a guess as any."""
    heads = getattr(layer, "num_attention_heads", None) or 1
    of_keys = getattr(layer, "num_key_value_heads", None) or heads
    return int(of_keys * (getattr(layer, "head_dim", None) or layer.hidden_size // heads))


@torch.no_grad()
def _decode_batch(
    llm: Any, questions: Sequence[Question], samples: int, stop_ids: Sequence[int], pad_id: int
) -> list[Answers]:
    """A answers are still open; U rows of the cache hold what each has said, `row_A` which of them."""
    device, copies = llm.device, 1 + samples
    steps = max(question.max_new_tokens for question in questions)
    ids_BT, mask_UT = _left_padded(questions, pad_id, device)
    output = llm(input_ids=ids_BT, use_cache=True, **_placed(llm, mask_UT, ids_BT.size(1)))
    if getattr(output, "past_key_values", None) is None:
        raise Unsuitable(f"{type(llm).__name__} keeps nothing that an answer could go on from, so it cannot be asked")
    uniform_RS = _uniform(questions, samples, steps, device)
    stops = torch.tensor(list(stop_ids), dtype=torch.long, device=device)
    lines_RS = torch.full((len(questions) * copies, steps), pad_id, device=device)
    room_R = torch.tensor([one.max_new_tokens for one in questions], device=device).repeat_interleave(copies)
    open_A = torch.arange(len(lines_RS), device=device)
    row_A = open_A // copies
    for step in range(steps):
        next_A = _choose(output.logits[:, -1].float()[row_A], uniform_RS[open_A, step])
        lines_RS[open_A, step] = next_A
        goes_on = ~torch.isin(next_A, stops) & (room_R[open_A] > step + 1)
        open_A, row_A, next_A = open_A[goes_on], row_A[goes_on], next_A[goes_on]
        if not len(open_A):
            break
        parents_U, next_U, row_A = _parted(row_A, next_A)
        cache = output.past_key_values
        if not torch.equal(parents_U, torch.arange(len(mask_UT), device=device)):
            _choose_rows(cache, parents_U)
            mask_UT = mask_UT[parents_U]
        mask_UT = torch.cat([mask_UT, mask_UT.new_ones(len(mask_UT), 1)], 1)
        output = llm(input_ids=next_U.unsqueeze(1), past_key_values=cache, use_cache=True, **_placed(llm, mask_UT, 1))
    lines = lines_RS.tolist()
    return [
        _answers(lines[at * copies : (at + 1) * copies], question.max_new_tokens, set(stop_ids))
        for at, question in enumerate(questions)
    ]


def _choose_rows(cache: Any, rows_U: Tensor) -> None:
    """Layers without attention (Qwen 3.5) know the order of a beam search alone; a cache of an architecture's own
    (MiniMax) may know the choice of rows alone.
    """
    own = "batch_select_indices" in vars(type(cache))
    (cache.batch_select_indices if own else cache.reorder_cache)(rows_U)


def _parted(row_A: Tensor, next_A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(the row each new row comes from, its next word, the new row of each answer): one row a different pair."""
    pairs_U2, row_of_A = torch.stack([row_A, next_A], 1).unique(dim=0, return_inverse=True)
    return pairs_U2[:, 0], pairs_U2[:, 1], row_of_A


def _left_padded(questions: Sequence[Question], pad_id: int, device: Any) -> tuple[Tensor, Tensor]:
    width = max(len(question.ids) for question in questions)
    gaps = [width - len(question.ids) for question in questions]
    ids = [[pad_id] * gap + list(question.ids) for gap, question in zip(gaps, questions, strict=True)]
    mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _placed(llm: Any, mask_RT: Tensor, new_tokens: int) -> dict[str, Any]:
    """Attention mask and, for LLMs that take them, positions that do not count the padding, and logits of the last
    position alone: of a whole prompt they would be the largest tensor there is.
    """
    placed: dict[str, Any] = {"attention_mask": mask_RT}
    taken = inspect.signature(llm.forward).parameters
    if "position_ids" in taken:
        positions_RT = (mask_RT.cumsum(1) - 1).clamp(min=0)
        placed["position_ids"] = positions_RT[:, -new_tokens:]
    if "logits_to_keep" in taken:
        placed["logits_to_keep"] = 1
    return placed


def _uniform(questions: Sequence[Question], samples: int, steps: int, device: Any) -> Tensor:
    """Rows of random numbers in [0, 1) per question; the greedy row is marked by -1."""
    rows = []
    for question in questions:
        generator = torch.Generator().manual_seed(question.seed)
        rows.append(torch.full((1, steps), -1.0, dtype=torch.float64))
        # Drawn for this question's own length first, so that a longer neighbour does not change its samples.
        own = torch.rand(samples, question.max_new_tokens, generator=generator, dtype=torch.float64)
        rows.append(torch.nn.functional.pad(own, (0, steps - question.max_new_tokens)))
    return torch.cat(rows).to(device)


def _choose(logits_RV: Tensor, uniform_R: Tensor) -> Tensor:
    """argmax where uniform is negative, else the word at that quantile of the distribution."""
    cumulative_RV = logits_RV.softmax(1).cumsum(1)
    threshold_R1 = uniform_R.clamp(min=0).to(cumulative_RV.dtype).unsqueeze(1) * cumulative_RV[:, -1:]
    sampled_R = torch.searchsorted(cumulative_RV, threshold_R1, right=True).squeeze(1)
    sampled_R = sampled_R.clamp(max=logits_RV.size(1) - 1)
    return torch.where(uniform_R < 0, logits_RV.argmax(1), sampled_R)


def _answers(lines: Sequence[Sequence[int]], max_new_tokens: int, stops: set[int]) -> Answers:
    greedy, *sampled = (_until_stop(line[:max_new_tokens], stops) for line in lines)
    return Answers(greedy, tuple(sampled))


def _until_stop(line: Sequence[int], stops: set[int]) -> tuple[int, ...]:
    end = next((at for at, token in enumerate(line) if token in stops), len(line))
    return tuple(line[:end])
