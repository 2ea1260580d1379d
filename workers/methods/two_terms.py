"""A loss on the forget rows plus a weighted loss on the retain rows: the shape of most methods.

A method file gives the first, `retain_term.py` the second; this puts them behind the loop's protocol.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor
from torch.nn import Parameter

from workers.methods.interface import Batch, Losses
from workers.methods.retain_term import RetainTerm


class ForgetTerm(Protocol):
    """What to do about the forget rows."""

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:
        """As `Method.prepare`, with the forget rows alone."""
        ...

    def loss(self, student: Any, batch: Batch) -> Tensor:
        """A weighted mean, scalar, with a graph."""
        ...

    def weight(self, batch: Batch) -> float:
        """What that mean was divided by."""
        ...


class TwoTerms:
    def __init__(self, forget: ForgetTerm, retain: RetainTerm) -> None:
        self._forget, self._retain = forget, retain
        self._prepared = False

    @property
    def wants_retain(self) -> bool:
        return self._retain.wanted

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:
        self._retain.prepare(teacher, batches)
        self._forget.prepare(teacher, [part for one in batches if (part := one.of_role("forget")) is not None], level)
        self._prepared = True

    def batch_weight(self, batch: Batch) -> float:
        return batch.token_weight if batch.roles[:1] == ("retain",) else self._forget.weight(batch)

    def losses(self, student: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        if not self._prepared:
            raise RuntimeError("prepare must be called before losses: it reads the teacher and the never-trained level")
        return Losses(
            forget=None if forget is None else self._forget.loss(student, forget),
            retain=self._retain.loss(student, retain),
        )

    def backward(self, losses: Losses, parameters: Sequence[Parameter]) -> None:
        self._retain.add_gradients(losses, parameters)
