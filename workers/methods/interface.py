"""What the one loop and every method agree on: batches in, two losses out, gradients left on the
parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor
from torch.nn import Parameter

from workers.methods.conflicts import Rule

Role = Literal["forget", "retain"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows.

    `labels_BT` has the token id where it counts and UNLABELLED elsewhere, aligned with `ids_BT` (not
    shifted). `weights_B` scales each row's tokens. `keys` name the rows, so that a method can look up
    what it kept of them. `token_weights_BT` scales single labels, aligned as they are; None: all the same.
    `token_levels_BT` are what a never-trained LLM would make of the labels, ln p, aligned as they are; 0 where that
    is unknown; None: of no row.
    `roles` say which side each row is on; a batch that does not say is all to forget.
    `alternative` holds other answers to the same rows, under the same keys, for the methods that train on such.
    `ended` says of each row whether its last token is an end of text; empty: of none is it known.
    `others`, if a row has any, are of each row the token ids of its question asked about somebody else.
    """

    ids_BT: Tensor
    mask_BT: Tensor
    labels_BT: Tensor
    weights_B: Tensor
    keys: tuple[int, ...]
    roles: tuple[Role, ...] = ()
    alternative: "Batch | None" = None
    token_weights_BT: Tensor | None = None
    token_levels_BT: Tensor | None = None
    ended: tuple[bool, ...] = ()
    others: tuple[tuple[tuple[int, ...], ...], ...] = ()

    def label_weights(self, rows_N: Tensor, columns_N: Tensor) -> Tensor:
        """(N,): the weight of the label that each of these positions predicts, its row's times its own."""
        weights_N = self.weights_B[rows_N]
        return weights_N if self.token_weights_BT is None else weights_N * self.token_weights_BT[rows_N, columns_N + 1]

    def label_levels(self, rows_N: Tensor, columns_N: Tensor) -> Tensor | None:
        """(N,): ln p of the label that each of these positions predicts, of an LLM that never met it; None: unknown."""
        return None if self.token_levels_BT is None else self.token_levels_BT[rows_N, columns_N + 1]

    def of_role(self, role: Role) -> "Batch | None":
        """Its rows of that role, as wide as before; None if there are none."""
        roles = self.roles or ("forget",) * len(self.keys)
        return self.only([at for at, one in enumerate(roles) if one == role])

    def only(self, kept: Sequence[int]) -> "Batch | None":
        """The rows at these places, as wide as before; None for no places."""
        if not kept:
            return None
        kept = list(kept)
        return Batch(
            ids_BT=self.ids_BT[kept],
            mask_BT=self.mask_BT[kept],
            labels_BT=self.labels_BT[kept],
            weights_B=self.weights_B[kept],
            keys=tuple(self.keys[at] for at in kept),
            roles=tuple(self.roles[at] for at in kept) if self.roles else (),
            alternative=None if self.alternative is None else self.alternative.only(kept),
            token_weights_BT=None if self.token_weights_BT is None else self.token_weights_BT[kept],
            token_levels_BT=None if self.token_levels_BT is None else self.token_levels_BT[kept],
            ended=tuple(self.ended[at] for at in kept) if self.ended else (),
            others=tuple(self.others[at] for at in kept) if self.others else (),
        )

    def in_parts(self, rows: int) -> "list[Batch]":
        """The same rows in the same order, at most `rows` together, as wide as before."""
        starts = range(0, len(self.keys), rows)
        parts = [self.only(range(start, min(start + rows, len(self.keys)))) for start in starts]
        return [part for part in parts if part is not None]

    @property
    def row_weight(self) -> float:
        """Sum of the weights of rows that have a labelled token: the denominator of a mean over answers."""
        return float(((self.labels_BT[:, 1:] >= 0).any(1) * self.weights_B).sum())

    @property
    def token_weight(self) -> float:
        """Sum over labelled tokens of their weight: the denominator of this batch's mean loss."""
        labelled_BT = self.labels_BT[:, 1:] >= 0
        if self.token_weights_BT is not None:
            return float(((labelled_BT * self.token_weights_BT[:, 1:]).sum(1) * self.weights_B).sum())
        counts_B = labelled_BT.sum(1)
        return float((counts_B * self.weights_B).sum())


@dataclass(frozen=True, slots=True)
class Losses:
    """Means over the weighted labelled tokens of a batch, each a scalar with a graph; `retain` None if
    not wanted. A method that averages over something else says so by `WeighsBatches`.
    """

    forget: Tensor | None
    retain: Tensor | None


class Method(Protocol):
    """One unlearning algorithm. Constructors take plain keyword numbers."""

    @property
    def wants_retain(self) -> bool:
        """False if `losses` would ignore a retain batch."""
        ...

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:
        """Called once, before the first step, with every row `losses` will see.

        `level` is the token probability of an answer that was never trained: where forgetting should end.

        Whatever is needed of the teacher must be kept here: it may be the very network that is about to
        change.
        """
        ...

    def losses(self, student: Any, forget: Batch | None, retain: Batch | None) -> Losses: ...

    def backward(self, losses: Losses, parameters: Sequence[Parameter]) -> None:
        """Add the gradient of the combined losses to `parameters`' `.grad`."""
        ...


@runtime_checkable
class WeighsBatches(Protocol):
    """A method whose losses are not means over labelled tokens: rows, say, or every real token."""

    def batch_weight(self, batch: Batch) -> float:
        """The denominator of its mean, so that micro batches add up to the batch."""
        ...


@runtime_checkable
class ChoosesWeights(Protocol):
    """A method that trains a few matrices of its own choice."""

    def chosen_weights(self) -> tuple[str, ...]:
        """Names of the student's parameters that it trains, known after `prepare`. The loop freezes the others."""
        ...


@runtime_checkable
class AsksEveryStep(Protocol):
    """A method that reads at every step what the LLM was before, off those of the student's layers that never change.
    Another teacher's layers would have to stay in memory for that: of such a one it keeps what it will ask.
    """

    def remember(self, teacher: Any, batches: Sequence[Batch]) -> None:
        """Called after `prepare`, with the same, where the teacher is not the student and will be let go."""
        ...


@runtime_checkable
class SettlesConflicts(Protocol):
    """A method whose own `backward` says what becomes of gradients that conflict; the loop then projects none."""

    @property
    def conflict_rule(self) -> Rule: ...


@runtime_checkable
class Counts(Protocol):
    """A method that counts something over the steps: it goes back, and on after a crash, with the last good step."""

    def counted(self) -> Mapping[str, Any]:
        """So far. JSON values, which later steps do not change."""
        ...

    def count_from(self, counted: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Findings:
    """What a method learnt on the way, for the report: JSON values, and sentences."""

    numbers: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@runtime_checkable
class Explains(Protocol):
    """A method that has something to say about its choices, after the last step."""

    def findings(self) -> Findings: ...
