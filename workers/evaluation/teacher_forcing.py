"""One teacher-forced pass over items, whatever is to be read from it at each labelled token.

An LLM is given an answer as it is written and asked at every position for the next token. What a metric needs of that
is a few numbers a token, so a `Reader` turns the V-wide logits of a few tokens into columns, and only those are kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from workers.batches import Encoded, Row, collate, cut, in_order_of_length
from workers.methods.head import hidden_states, live_head
from workers.methods.interface import Batch
from workers.methods.tokens import predicted_tokens

BATCH_ROWS = 32

# (fp32 logits_NV, targets_N) -> columns of N numbers each.
Reader = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
Line = list[tuple[Any, ...]]


def read_labels(  # what is read, and how much of it at once
    llm: Any,
    items: Sequence[Sequence[Encoded]],
    pad_id: int,
    reader: Reader,
    *,
    chunk_tokens: int,
    batch_rows: int,
    most_tokens: int | None = None,
) -> list[Line]:
    """One line per item, a tuple per labelled token in the answer's order. The windows of an item are one answer.

    `batch_rows` windows are read at once, of `most_tokens` tokens at most. V-wide logits of `chunk_tokens` tokens exist
    at a time. Raises ValueError for an item without a labelled token.
    """
    windows = [(at, window) for at, item in enumerate(items) for window in item if window.labelled_tokens]
    missing = sorted(set(range(len(items))) - {at for at, _ in windows})
    if missing:
        raise ValueError(f"item {missing[0]} has no token to predict: leave it out")
    rows = [Row(key, window) for key, (_, window) in enumerate(windows)]
    lines: list[Line] = [[] for _ in rows]
    for some in in_order_of_length(rows, batch_rows):
        for batch in cut(collate(some, pad_id, llm.device), most_tokens):
            _read(llm, batch, reader, chunk_tokens, lines)
    of_item: list[Line] = [[] for _ in items]
    for (at, _), line in zip(windows, lines, strict=True):
        of_item[at].extend(line)
    return of_item


@torch.no_grad()
def _read(llm: Any, batch: Batch, reader: Reader, chunk_tokens: int, lines: Sequence[Line]) -> None:
    """Appends a tuple a token to the line of its row's key."""
    tokens = predicted_tokens(batch.labels_BT)
    hidden_ND = hidden_states(llm, batch.ids_BT, batch.mask_BT)[tokens.rows_N, tokens.columns_N]
    head = live_head(llm)
    chunks = zip(hidden_ND.split(chunk_tokens), tokens.targets_N.split(chunk_tokens), strict=True)
    found = [reader(head(hidden_nD).float(), targets_n) for hidden_nD, targets_n in chunks]
    columns = [torch.cat(parts).tolist() for parts in zip(*found, strict=True)]
    for row, *numbers in zip(tokens.rows_N.tolist(), *columns, strict=True):
        lines[batch.keys[row]].append(tuple(numbers))
