"""FALCON's third step (arXiv:2502.01472, eq. 13-14): its two gradients made one as conflicts.py says, and remembered.

The paper has one pair of shares (a, b) for all gradients together; the released code decides for each matrix by itself,
with (0.8, 1.2) where they conflict and (0.1, 1.9) where they agree. Both cosines are kept whichever is used.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from workers.methods.conflicts import Rule, resolve
from workers.methods.gradients import cosine


class GradientPair:
    """u and r of one step, added up over its micro batches, and the cosines of all steps that have both.

    Projecting is no sum of parts: after every `add` the weights' `.grad` is g of all that was added since somebody
    put another in its place, such as None after a step.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._forget: list[Tensor] = []
        self._retain: list[Tensor] = []
        self._left: list[Tensor] = []
        self._sides: set[str] = set()
        self._together: list[float] = []
        self._apart: dict[str, list[float]] = {}

    def add(self, weights: Mapping[str, Parameter], forget: Tensor | None, retain: Tensor | None) -> None:
        own = list(weights.values())
        if [id(weight.grad) for weight in own] != [id(one) for one in self._left]:
            self._forget = [torch.zeros_like(weight) for weight in own]
            self._retain = [torch.zeros_like(weight) for weight in own]
            self._sides = set()
        _add_gradient(self._forget, forget, own)
        _add_gradient(self._retain, retain, own)
        self._note_sides(weights, {"forget": forget, "retain": retain})
        self._left = resolve(self._forget, self._retain, self._rule)
        for weight, resolved in zip(own, self._left, strict=True):
            weight.grad = resolved

    def counted(self) -> dict[str, Any]:
        return {"together": [*self._together], "apart": {name: [*values] for name, values in self._apart.items()}}

    def count_from(self, counted: Mapping[str, Any]) -> None:
        self._together = [*counted["together"]]
        self._apart = {name: [*values] for name, values in counted["apart"].items()}

    def numbers(self) -> dict[str, Any]:
        """Over the steps: of all matrices as one vector, and of each matrix."""
        return {
            "steps": len(self._together),
            "together": _summary(self._together),
            "by_weight": {name: _summary(values) for name, values in self._apart.items()},
        }

    def _note_sides(self, names: Iterable[str], losses: Mapping[str, Tensor | None]) -> None:
        """The cosines so far, once the step has had both sides: a step of repair has the retain rows alone."""
        before = len(self._sides)
        self._sides |= {side for side, loss in losses.items() if loss is not None}
        if len(self._sides) == 2:
            if before < 2:
                for cosines in (self._together, *(self._apart.setdefault(name, []) for name in names)):
                    cosines.append(0.0)
            self._note_cosines(names)

    def _note_cosines(self, names: Iterable[str]) -> None:
        parts = [cosine([u], [r]) for u, r in zip(self._forget, self._retain, strict=True)]
        self._together[-1], *each = torch.stack([cosine(self._forget, self._retain), *parts]).tolist()
        for name, value in zip(names, each, strict=True):
            self._apart[name][-1] = value


def _add_gradient(total: Sequence[Tensor], loss: Tensor | None, weights: Sequence[Parameter]) -> None:
    if loss is not None:
        for sum_of_one, gradient in zip(total, torch.autograd.grad(loss, weights), strict=True):
            sum_of_one.add_(gradient)


def _summary(cosines: Sequence[float]) -> dict[str, float]:
    if not cosines:
        return {}
    return {
        "mean": sum(cosines) / len(cosines),
        "least": min(cosines),
        "most": max(cosines),
        "conflicting_share": sum(value < 0 for value in cosines) / len(cosines),
    }
