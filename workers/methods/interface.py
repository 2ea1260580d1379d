"""What the one loop and every method agree on: batches in, two losses out, gradients left on the
parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.nn import Parameter


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows.

    `labels_BT` has the token id where it counts and UNLABELLED elsewhere, aligned with `ids_BT` (not
    shifted). `weights_B` scales each row's tokens. `keys` name the rows, so that a method can look up
    what it kept of them.
    """

    ids_BT: Tensor
    mask_BT: Tensor
    labels_BT: Tensor
    weights_B: Tensor
    keys: tuple[int, ...]

    @property
    def token_weight(self) -> float:
        """Sum over labelled tokens of their row's weight: the denominator of this batch's mean loss."""
        counts_B = (self.labels_BT[:, 1:] >= 0).sum(1)
        return float((counts_B * self.weights_B).sum())


@dataclass(frozen=True, slots=True)
class Losses:
    """Means over the weighted labelled tokens of a batch, each a scalar with a graph; `retain` None if
    not wanted.
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
