"""The gradients of one step, of forget rows beside retain rows: a micro batch at a time, on each rank its own rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch.nn import Parameter

from workers.methods.conflicts import Rule, resolve
from workers.methods.interface import Batch, Losses, Method, WeighsBatches
from workers.sharding import added_up, average_whole_gradients, own_rows, ranks

Both = tuple[float | None, float | None]
"""The forget loss and the retain loss, None of a side without rows."""


@dataclass(frozen=True, slots=True)
class BatchGradients:
    """Where the rule says so, a forget gradient gives way to the retain gradient before they are added."""

    student: Any
    method: Method
    rule: Rule

    def give(self, forget: Sequence[Batch], retain: Sequence[Batch], parameters: Sequence[Parameter]) -> Both:
        """To `parameters`, those of the whole batch, each micro batch weighed by its share of it. Without parameters
        the losses alone are computed.
        """
        combine = self._resolved if self.rule.scope != "off" and forget and retain else self._added
        return combine(forget, retain, parameters)

    def _resolved(self, forget: Sequence[Batch], retain: Sequence[Batch], parameters: Sequence[Parameter]) -> Both:
        """One side after the other: a projection is no sum of parts, it needs each side's whole gradient."""
        forget_loss, _ = self._added(forget, [], parameters)
        forget_gradient = take_gradient(parameters)
        _, retain_loss = self._added([], retain, parameters)
        retain_gradient = take_gradient(parameters)
        resolved = resolve(forget_gradient, retain_gradient, self.rule)
        for parameter, gradient in zip(parameters, resolved, strict=True):
            parameter.grad = gradient
        return forget_loss, retain_loss

    def _added(self, forget: Sequence[Batch], retain: Sequence[Batch], parameters: Sequence[Parameter]) -> Both:
        """The gradients are added to what `parameters` have. A rank computes those of its own rows, in as many passes
        as the others.
        """
        weigh = self.method.batch_weight if isinstance(self.method, WeighsBatches) else _token_weight
        # Gradients are averaged over the ranks, so each one's share of the sum counts that many times.
        totals = sum(map(weigh, forget)) / ranks(), sum(map(weigh, retain)) / ranks()
        sums = [0.0, 0.0]
        for parts in zip_longest(map(_Own.of, forget), map(_Own.of, retain)):
            batches = [None if part is None else part.batch for part in parts]
            found = self.method.losses(self.student, *batches)
            shares = [
                _share(loss, part, total, weigh)
                for loss, part, total in zip((found.forget, found.retain), parts, totals, strict=True)
            ]
            if parameters:
                self.method.backward(Losses(*shares), parameters)
            sums = [so_far + (0.0 if loss is None else loss.item()) for so_far, loss in zip(sums, shares, strict=True)]
        average_whole_gradients(parameters)
        forget_loss, retain_loss = (one / ranks() for one in added_up(sums, self.student.device))
        return forget_loss if forget else None, retain_loss if retain else None


def take_gradient(parameters: Sequence[Parameter]) -> list[torch.Tensor]:
    """Each parameter's gradient, zero where there is none; the parameters have none afterwards."""
    taken = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    for one in parameters:
        one.grad = None
    return taken


def _token_weight(batch: Batch) -> float:
    return batch.token_weight


@dataclass(frozen=True, slots=True)
class _Own:
    """This rank's rows of a batch; `counts` is 0 for a rank without any, which runs one for the others' sake."""

    batch: Batch
    counts: float = 1.0

    @classmethod
    def of(cls, batch: Batch) -> "_Own":
        if ranks() == 1:
            return cls(batch)
        rows, counts = own_rows(len(batch.keys))
        own = batch.only(rows)
        return cls(batch if own is None else own, float(counts))


def _share(
    loss: torch.Tensor | None, part: _Own | None, total: float, weigh: Callable[[Batch], float]
) -> torch.Tensor | None:
    return None if loss is None or part is None else loss * (part.counts * weigh(part.batch) / total)
