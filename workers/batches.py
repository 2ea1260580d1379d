"""Rows into padded batches, and which rows come together at which step: decided by the seed alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from workers.methods.interface import Batch, Role
from workers.methods.tokens import UNLABELLED

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row of token ids with its labels, aligned (not shifted): a label is the id itself or UNLABELLED.

    `token_weights`, aligned too, says how much each label counts beside the others; empty: all the same.
    `token_levels`, aligned too, are what a never-trained LLM would make of the labels, ln p; empty: unknown.
    `ended`: the last token is the end of text, labelled or not, and no word of the row's.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    token_weights: tuple[float, ...] = ()
    token_levels: tuple[float, ...] = ()
    ended: bool = False

    @property
    def labelled_tokens(self) -> int:
        """Labelled tokens that some earlier position can predict."""
        return sum(label != UNLABELLED for label in self.labels[1:])


@dataclass(frozen=True, slots=True)
class Row:
    """An encoded row with the key methods know it by, the weight of its tokens and the side it is on.

    `alternative` is another answer to the same row, if the method trains on such; `others` are the token ids of its
    question asked about somebody else, if the method asks such.
    """

    key: int
    encoded: Encoded
    weight: float = 1.0
    role: Role = "forget"
    alternative: Encoded | None = None
    others: tuple[tuple[int, ...], ...] = ()


def pad_id_of(tokenizer: Any) -> int:
    """Any id will do for padding that the LLM has, since padding is masked. A padding token is often the tokenizer's
    alone, behind the last that the LLM has; an end of text is both's.
    """
    return int(tokenizer.eos_token_id or 0)


def collate(rows: Sequence[Row], pad_id: int, device: torch.device | str = "cpu") -> Batch:
    """Right-padded to the longest row: a causal LLM's real positions cannot see what follows them."""
    width = max(len(row.encoded.ids) for row in rows)

    def padded(values: Sequence[Sequence[int]], filler: int) -> Tensor:
        lines = [list(line) + [filler] * (width - len(line)) for line in values]
        return torch.tensor(lines, dtype=torch.long, device=device)

    return Batch(
        ids_BT=padded([row.encoded.ids for row in rows], pad_id),
        mask_BT=padded([[1] * len(row.encoded.ids) for row in rows], 0),
        labels_BT=padded([row.encoded.labels for row in rows], UNLABELLED),
        weights_B=torch.tensor([row.weight for row in rows], dtype=torch.float32, device=device),
        keys=tuple(row.key for row in rows),
        roles=tuple(row.role for row in rows),
        alternative=_alternative(rows, pad_id, device),
        token_weights_BT=_aligned([row.encoded.token_weights for row in rows], rows, 1.0, width, device),
        token_levels_BT=_aligned([row.encoded.token_levels for row in rows], rows, 0.0, width, device),
        ended=tuple(row.encoded.ended for row in rows),
        others=tuple(row.others for row in rows) if any(row.others for row in rows) else (),
    )


def _aligned(  # what the rows say, and how it is laid out
    said: Sequence[Sequence[float]], rows: Sequence[Row], unsaid: float, width: int, device: torch.device | str
) -> Tensor | None:
    """(B, T) of what the rows say of their tokens, `unsaid` for rows that say nothing; None if none does."""
    if not any(said):
        return None
    lines = [list(one or [unsaid] * len(row.encoded.ids)) for one, row in zip(said, rows, strict=True)]
    padded = [line + [0.0] * (width - len(line)) for line in lines]
    return torch.tensor(padded, dtype=torch.float32, device=device)


def _alternative(rows: Sequence[Row], pad_id: int, device: torch.device | str) -> Batch | None:
    """The rows' other answers. A row without one, such as a retain row beside forget rows, stands for itself."""
    if all(row.alternative is None for row in rows):
        return None
    others = [replace(row, encoded=row.alternative or row.encoded, alternative=None) for row in rows]
    return collate(others, pad_id, device)


def order(count: int, seed: int, epoch: int) -> list[int]:
    """A permutation of range(count): the same for the same seed and epoch on every machine."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator).tolist()


def slices(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Consecutive pieces of at most `size` items."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def endless(count: int, seed: int) -> Iterator[int]:
    """Every index once per round, each round in its own order, for ever; nothing at all if count is 0."""
    epoch = 0
    while count:
        yield from order(count, seed, epoch)
        epoch += 1


def in_order_of_length(rows: Sequence[Row], batch_size: int) -> list[list[Row]]:
    """Batches of similar length for a pass whose order does not matter: least padding, shortest first."""
    ordered = sorted(rows, key=lambda row: (len(row.encoded.ids), row.key))
    return [list(batch) for batch in slices(ordered, batch_size)]


def cut(batch: Batch, most_tokens: int | None) -> list[Batch]:
    """Parts of at most that many tokens, but of one row at least; the batch itself if it has no more, or None is said.

    They stay as wide as the batch: padding changes the last digits of what is read of a row, other rows rarely do.
    """
    if most_tokens is None or batch.ids_BT.numel() <= most_tokens:
        return [batch]
    return batch.in_parts(max(1, most_tokens // batch.ids_BT.size(1)))
