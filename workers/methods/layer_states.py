"""The states of one layer at the positions that count: the student's with their graph, and the frozen ones beside
them, in fp32.

Counting are the positions that predict a labelled token (`labelled`), as for every other method, or all real tokens
of a row (`real`), as in the papers, whose rows are plain text. Padding never counts. `P` is the number of positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from workers.methods.activations import FrozenReference, Trace, trace
from workers.methods.interface import Batch
from workers.methods.layers import UnsuitableError, and_two_before, decoder_layers, weight_names
from workers.methods.tokens import predicted_tokens

Positions = Literal["labelled", "real"]


@dataclass(frozen=True, slots=True)
class Spots:
    """Row-major: all positions of row 0 in order, then row 1… `weights_P` are their rows' weights."""

    rows_P: Tensor
    columns_P: Tensor
    weights_P: Tensor

    def of(self, states_BTD: Tensor) -> Tensor:
        return states_BTD[self.rows_P, self.columns_P].float()

    def mean(self, values_P: Tensor) -> Tensor:
        """Σ w·value / Σ w over positions."""
        return (values_P * self.weights_P).sum() / self.weights_P.sum()

    def mean_of_rows(self, values_P: Tensor) -> Tensor:
        """The mean of each row over its own positions, then the weighted mean over rows: long rows count no more."""
        positions_P = torch.bincount(self.rows_P)[self.rows_P]
        return (values_P * self.weights_P / positions_P).sum() / self.row_weight

    @property
    def row_weight(self) -> Tensor:
        """Σ of the weights of rows that have a position."""
        return (self.weights_P / torch.bincount(self.rows_P)[self.rows_P]).sum()


def spots(batch: Batch, positions: Positions) -> Spots:
    if positions == "real":
        rows_P, columns_P = batch.mask_BT.nonzero(as_tuple=True)
    else:
        tokens = predicted_tokens(batch.labels_BT)
        rows_P, columns_P = tokens.rows_N, tokens.columns_N
    return Spots(rows_P, columns_P, batch.weights_B[rows_P])


class KeptStates:
    """What a teacher says after one layer, asked once: (P, D) of each row by its key, in fp32 on the CPU."""

    @torch.no_grad()
    def __init__(self, teacher: Any, batches: Sequence[Batch], layer: int, positions: Positions) -> None:
        self._states_PD: dict[int, Tensor] = {}
        for batch in batches:
            at = spots(batch, positions)
            states_PD = at.of(trace(teacher, batch, layer, layer).states).cpu()
            for row, key in enumerate(batch.keys):
                self._states_PD[key] = states_PD[(at.rows_P == row).cpu()]

    def of(self, batch: Batch) -> Tensor:
        """(P, D), row-major as `spots` counts them."""
        return torch.cat([self._states_PD[key] for key in batch.keys]).to(batch.ids_BT.device)


@dataclass(frozen=True, slots=True)
class Pair:
    """What the student says now and said before the first step."""

    states_PD: Tensor
    frozen_PD: Tensor
    spots: Spots


# (student, how its layers were called, the batch, its spots) -> (P, D)
Frozen = Callable[[Any, Trace, Batch, Spots], Tensor]


class SteeredLayer:
    """The layer whose states a method steers, and the matrices below or in it that it may change to do so.

    `trained_layers` empty: the layer and the two before it.
    """

    def __init__(
        self,
        teacher: Any,
        layer: int,
        trained_layers: Sequence[int],
        trained_modules: Sequence[str],
        positions: Positions,
    ) -> None:
        count = len(decoder_layers(teacher))
        if layer >= count:
            raise UnsuitableError(f"layer is {layer}, which does not exist: the LLM has layers 0 to {count - 1}")
        trained = tuple(sorted(trained_layers)) or and_two_before(layer)
        if trained[-1] > layer:
            raise UnsuitableError(
                f"trained_layers names layer {trained[-1]}, which cannot change the states of layer {layer} before it"
            )
        self.layer, self.trained_layers, self.positions = layer, trained, positions
        self.names = weight_names(teacher, trained, trained_modules)
        reference = FrozenReference(teacher, self.names, trained[0], layer)
        self._frozen: Frozen = lambda student, now, batch, at: at.of(reference.states(student, now, batch))
        self._chosen: dict[int, str] = {}

    def remember(self, teacher: Any, batches: Sequence[Batch]) -> None:
        """Keep the teacher's states of these rows and not the teacher: it is another network than the student."""
        kept = KeptStates(teacher, batches, self.layer, self.positions)
        self._frozen = lambda _student, _now, batch, _at: kept.of(batch)

    def pair(self, student: Any, batch: Batch) -> Pair:
        own = dict(student.named_parameters())
        self._chosen = {id(own[name]): name for name in self.names}
        at = spots(batch, self.positions)
        now = trace(student, batch, self.trained_layers[0], self.layer)
        return Pair(at.of(now.states), self._frozen(student, now, batch, at), at)

    def chosen(self, parameters: Sequence[Parameter]) -> dict[str, Parameter]:
        """Those of `parameters` that the last student trains, by name, in a fixed order."""
        found = {self._chosen[id(one)]: one for one in parameters if id(one) in self._chosen}
        return {name: found[name] for name in self.names if name in found}
