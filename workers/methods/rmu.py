"""RMU (Li et al., ICML 2024, arXiv:2403.03218): lead the forget rows' states to a random direction, hold the others.

    L_forget = mean_rows mean_t ‖h(t) - c·u‖² / D      L_retain = α·mean_rows mean_t ‖h(t) - h_frozen(t)‖² / D

h are the states after one layer, u = x / ‖x‖ with x uniform in [0, 1)^D, fixed for the job. The mean is taken in each
row first, as the paper writes it. c is a length: what is far for one LLM is near for another whose states are longer,
so `relative` counts it in mean lengths of the frozen forget states (arXiv:2408.06223 adapts it in the same way).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from workers.methods.activations import trace
from workers.methods.interface import Batch, Findings, Losses
from workers.methods.layer_states import Positions, SteeredLayer, spots
from workers.methods.layers import MLP_OUTPUT, decoder_layers, quarter_depth


def squared_distances(states_PD: Tensor, goal_PD: Tensor) -> Tensor:
    """‖h - goal‖² / D at each position, (P,)."""
    return (states_PD - goal_PD).square().mean(-1)


def random_direction(width: int, seed: int) -> Tensor:
    """u, of length 1: the same for the same seed on every machine."""
    uniform_D = torch.rand(width, generator=torch.Generator().manual_seed(seed))
    return uniform_D / uniform_D.norm()


class Rmu:
    def __init__(
        self,
        *,
        layer: int | None = None,
        trained_layers: tuple[int, ...] = (),
        trained_modules: tuple[str, ...] = (MLP_OUTPUT,),
        positions: Positions = "labelled",
        steering: float = 6.5,
        steering_scale: Literal["absolute", "relative"] = "absolute",
        retain_weight: float = 1200.0,
        seed: int = 0,
    ) -> None:
        self._layer, self._trained_layers, self._trained_modules = layer, trained_layers, trained_modules
        self._positions, self._steering, self._relative = positions, steering, steering_scale == "relative"
        self._retain_weight, self._seed = retain_weight, seed
        self._steered: SteeredLayer | None = None
        self._goal_D = torch.empty(0)
        self._mean_length = 0.0

    @property
    def wants_retain(self) -> bool:
        return self._retain_weight > 0.0

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:  # noqa: ARG002 - no level is aimed at
        layer = quarter_depth(len(decoder_layers(teacher))) if self._layer is None else self._layer
        self._steered = SteeredLayer(teacher, layer, self._trained_layers, self._trained_modules, self._positions)
        width, self._mean_length = _mean_length(teacher, batches, layer, self._positions)
        scale = self._mean_length if self._relative else 1.0
        self._goal_D = self._steering * scale * random_direction(width, self._seed)

    def remember(self, teacher: Any, batches: Sequence[Batch]) -> None:
        self._prepared.remember(teacher, batches)

    def chosen_weights(self) -> tuple[str, ...]:
        return self._prepared.names

    def batch_weight(self, batch: Batch) -> float:
        return float(spots(batch, self._positions).row_weight)

    def losses(self, student: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        return Losses(
            forget=None if forget is None else self._away(student, forget),
            retain=None if retain is None or not self.wants_retain else self._held(student, retain),
        )

    def backward(self, losses: Losses, parameters: Sequence[Parameter]) -> None:
        parts = [] if losses.forget is None else [losses.forget]
        if losses.retain is not None:
            parts.append(self._retain_weight * losses.retain)
        chosen = self._prepared.chosen(parameters)
        if parts and chosen:
            torch.stack(parts).sum().backward(inputs=list(chosen.values()))

    def findings(self) -> Findings:
        steered = self._prepared
        numbers = {
            "layer": steered.layer,
            "trained_weights": list(steered.names),
            "goal_length": float(self._goal_D.norm()),
            "frozen_forget_length": self._mean_length,
        }
        return Findings(numbers)

    @property
    def _prepared(self) -> SteeredLayer:
        if self._steered is None:
            raise RuntimeError("prepare must be called before losses: RMU needs the frozen weights of its layers")
        return self._steered

    def _away(self, student: Any, batch: Batch) -> Tensor:
        pair = self._prepared.pair(student, batch)
        return pair.spots.mean_of_rows(squared_distances(pair.states_PD, self._goal_D.to(pair.states_PD.device)))

    def _held(self, student: Any, batch: Batch) -> Tensor:
        pair = self._prepared.pair(student, batch)
        return pair.spots.mean_of_rows(squared_distances(pair.states_PD, pair.frozen_PD))


@torch.no_grad()
def _mean_length(teacher: Any, batches: Sequence[Batch], layer: int, positions: Positions) -> tuple[int, float]:
    """(D, mean ‖h_frozen‖ over the forget rows' positions), of which one batch's states are in memory at a time."""
    width, total, count = teacher.config.get_text_config().hidden_size, 0.0, 0
    for batch in batches:
        if (part := batch.of_role("forget")) is not None:
            states_PD = spots(part, positions).of(trace(teacher, part, layer, layer).states)
            total += float(states_PD.norm(dim=1).double().sum())
            width, count = states_PD.size(1), count + len(states_PD)
    return width, total / max(1, count)
