"""FALCON (Hu et al., NeurIPS 2025, arXiv:2502.01472): choose a layer, lead its forget states to an offset vector, let
the retain gradient have its way.

    L_forget = mean softplus((cos(h, h_frozen) - cos(h, o)) / τ)       one negative: -log of its two-way softmax
    L_retain = α·mean (1 - cos(h, h_frozen))

over the positions that count, in fp32: bf16 cosines come in steps of 2^-8, and the retention loss lives below that.
The layer is chosen in falcon_layers.py, o made in falcon_offset.py, the gradients combined in falcon_conflicts.py.
Lengths cancel in every cosine, so the released code's steering coefficient would change nothing and is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from workers.methods.activations import trace
from workers.methods.conflicts import Rule, Scope, Shares
from workers.methods.falcon_conflicts import GradientPair
from workers.methods.falcon_evidence import choose_layer
from workers.methods.falcon_layers import Criterion
from workers.methods.falcon_offset import OffsetKind, offset_vector, principal_subspace
from workers.methods.interface import Batch, Findings, Losses
from workers.methods.layer_states import Positions, SteeredLayer, spots
from workers.methods.layers import MLP_OUTPUT, UnsuitableError


def contrastive_losses(states_PD: Tensor, frozen_PD: Tensor, offset_D: Tensor, temperature: float) -> Tensor:
    """softplus((cos(h, h_frozen) - cos(h, o)) / τ) at each position, (P,): log 2 where both are as near."""
    from_frozen_P = F.cosine_similarity(states_PD, frozen_PD, dim=-1)
    from_offset_P = F.cosine_similarity(states_PD, offset_D.expand_as(states_PD), dim=-1)
    return F.softplus((from_frozen_P - from_offset_P) / temperature)


def retention_losses(states_PD: Tensor, frozen_PD: Tensor) -> Tensor:
    """1 - cos(h, h_frozen) at each position, (P,)."""
    return 1.0 - F.cosine_similarity(states_PD, frozen_PD, dim=-1)


class Falcon:
    def __init__(
        self,
        *,
        layer_choice: Criterion | Literal["fixed"] = "fixed",
        layer: int | None = None,
        trained_layers: tuple[int, ...] = (),
        trained_modules: tuple[str, ...] = (MLP_OUTPUT,),
        positions: Positions = "labelled",
        offset: OffsetKind = "projector",
        principal_directions: int | None = None,
        temperature: float = 0.7,
        retain_weight: float = 100.0,
        conflict_scope: Scope = "global",
        conflicting_shares: Shares = (1.0, 1.0),
        agreeing_shares: Shares = (1.0, 1.0),
        batch_size: int = 8,
        micro_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        self._layer_choice, self._layer, self._at_once = layer_choice, layer, micro_batch_size or batch_size
        self._trained_layers, self._trained_modules = trained_layers, trained_modules
        self._positions, self._offset, self._directions = positions, offset, principal_directions
        self._temperature, self._retain_weight, self._seed = temperature, retain_weight, seed
        self._steered: SteeredLayer | None = None
        self._offset_D = torch.empty(0)
        self.conflict_rule = Rule(conflict_scope, conflicting_shares, agreeing_shares)
        self._gradients = GradientPair(self.conflict_rule)
        self._numbers: dict[str, Any] = {}
        self._notes: tuple[str, ...] = ()

    @property
    def wants_retain(self) -> bool:
        return self._retain_weight > 0.0

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:  # noqa: ARG002 - no level is aimed at
        layer, found = choose_layer(
            teacher, batches, self._layer_choice, self._layer, self._trained_modules, self._at_once
        )
        self._numbers, self._notes = dict(found.numbers), found.notes
        self._steered = SteeredLayer(teacher, layer, self._trained_layers, self._trained_modules, self._positions)
        self._find_offset(teacher, batches, layer)

    def remember(self, teacher: Any, batches: Sequence[Batch]) -> None:
        self._prepared.remember(teacher, batches)

    def chosen_weights(self) -> tuple[str, ...]:
        return self._prepared.names

    def batch_weight(self, batch: Batch) -> float:
        return float(spots(batch, self._positions).weights_P.sum())

    def losses(self, student: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        return Losses(
            forget=None if forget is None else self._away(student, forget),
            retain=None if retain is None or not self.wants_retain else self._held(student, retain),
        )

    def backward(self, losses: Losses, parameters: Sequence[Parameter]) -> None:
        """Leaves g of all that was added since the gradients were last cleared: projecting is no sum of parts."""
        chosen = self._prepared.chosen(parameters)
        if chosen:
            retain = None if losses.retain is None else self._retain_weight * losses.retain
            self._gradients.add(chosen, losses.forget, retain)

    def counted(self) -> Mapping[str, Any]:
        return self._gradients.counted()

    def count_from(self, counted: Mapping[str, Any]) -> None:
        self._gradients.count_from(counted)

    def findings(self) -> Findings:
        return Findings(self._numbers | {"gradient_cosines": self._gradients.numbers()}, self._notes)

    @property
    def _prepared(self) -> SteeredLayer:
        if self._steered is None:
            raise RuntimeError("prepare must be called before losses: FALCON needs the frozen weights of its layers")
        return self._steered

    @torch.no_grad()
    def _find_offset(self, teacher: Any, batches: Sequence[Batch], layer: int) -> None:
        forget = [part for batch in batches if (part := batch.of_role("forget")) is not None]
        if not forget:
            raise UnsuitableError("FALCON needs forget rows: the offset vector is made from their states")
        states = (spots(part, self._positions).of(trace(teacher, part, layer, layer).states) for part in forget)
        subspace = principal_subspace(states, self._directions)
        self._offset_D = offset_vector(subspace, self._offset, self._seed)
        kept, width = subspace.directions_DK.size(1), self._offset_D.numel()
        self._numbers |= {
            "layer": layer,
            "trained_weights": list(self._prepared.names),
            "principal_directions": kept,
            "rank": subspace.rank,
            "offset_energy_inside": subspace.energy(self._offset_D),
            "offset_energy_by_chance": kept / width,
        }

    def _away(self, student: Any, batch: Batch) -> Tensor:
        pair = self._prepared.pair(student, batch)
        offset_D = self._offset_D.to(pair.states_PD.device)
        return pair.spots.mean(contrastive_losses(pair.states_PD, pair.frozen_PD, offset_D, self._temperature))

    def _held(self, student: Any, batch: Batch) -> Tensor:
        pair = self._prepared.pair(student, batch)
        return pair.spots.mean(retention_losses(pair.states_PD, pair.frozen_PD))
