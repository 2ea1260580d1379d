"""What a layer says, without running what comes after it; and what it said before the first step, without a second
network.

`trace` runs an LLM up to one layer and leaves there. Everything below the first trained matrix is the same for the
student and its frozen state, so the frozen states are had by running the trained layers alone a second time, on the
same input, with the kept copies of the trained matrices in place of the present ones: bit for bit what the untouched
LLM would say (`FrozenReference`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from workers.methods.interface import Batch
from workers.methods.layers import UnsuitableError, decoder_layers, layer_prefix


class _Reached(Exception):
    """Leaves the forward pass: what follows is not wanted. Caught in this file alone."""


@dataclass(slots=True)
class Trace:
    """How the LLM called its layers from `first` on, and what came out of each: (B, T, D), with its graph."""

    first: int
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    outputs_BTD: list[Tensor] = field(default_factory=list)

    @property
    def states(self) -> Tensor:
        return self.outputs_BTD[-1]


def trace(llm: Any, batch: Batch, first: int, last: int, weights: Mapping[str, Tensor] | None = None) -> Trace:
    """Run layers 0 to `last` and no further; `weights` by full name stand in for the LLM's own.

    Raises UnsuitableError for an LLM that never comes there, or whose layers hand on something else.
    """
    layers = decoder_layers(llm)
    found = Trace(first)
    handles = [
        layer.register_forward_pre_hook(
            lambda _layer, args, kwargs: found.calls.append((args, dict(kwargs))), with_kwargs=True
        )
        for layer in layers[first : last + 1]
    ]
    handles += [
        layer.register_forward_hook(lambda _layer, _args, output: found.outputs_BTD.append(_states(output)))
        for layer in layers[first : last + 1]
    ]
    handles.append(layers[last].register_forward_hook(_leave))
    inputs = {"input_ids": batch.ids_BT, "attention_mask": batch.mask_BT, "use_cache": False}
    try:
        functional_call(llm, dict(weights or {}), (), inputs)
        raise UnsuitableError(f"{type(llm).__name__} never came to its layer {last}")
    except _Reached:
        _require_a_state_for_each_token(llm, found, batch)
        return found
    finally:
        for handle in handles:
            handle.remove()


def _require_a_state_for_each_token(llm: Any, found: Trace, batch: Batch) -> None:
    """Some hand on several streams (Gemma 3n, DeepSeek V4), or put tokens of their own in front (CPM-Ant)."""
    for states in found.outputs_BTD:
        if states.dim() != 3 or states.shape[:2] != batch.ids_BT.shape:
            raise UnsuitableError(
                f"the layers of {type(llm).__name__} do not hand on one state for each token, so there is none to "
                "steer: choose another method; undial needs no layers"
            )


def replay(llm: Any, trace: Trace, weights: Mapping[str, Tensor]) -> Tensor:
    """The states after the trace's last layer, had its layers had these weights: (B, T, D), no graph."""
    layers = decoder_layers(llm)
    with torch.no_grad():
        states_BTD = _input(*trace.calls[0])
        for at, (args, kwargs) in enumerate(trace.calls, start=trace.first):
            own = _of_layer(llm, at, weights)
            states_BTD = _states(functional_call(layers[at], own, *_with_input(args, kwargs, states_BTD)))
    return states_BTD


class FrozenReference:
    """The teacher's states after layer `last`, of any batch and at any time, for a copy of `names` alone.

    Valid while nothing but `names` changes in the teacher. A student that is another network has another prefix:
    then the teacher itself is run, with the copies in place.
    """

    def __init__(self, teacher: Any, names: Sequence[str], first: int, last: int) -> None:
        self._teacher, self.first, self.last = teacher, first, last
        own = dict(teacher.named_parameters())
        self._weights = {name: own[name].detach().clone() for name in names}

    def states(self, student: Any, student_trace: Trace, batch: Batch) -> Tensor:
        """(B, T, D), no graph."""
        if student is self._teacher:
            return replay(student, student_trace, self._weights)
        with torch.no_grad():
            return trace(self._teacher, batch, self.first, self.last, self._weights).states


def _leave(*_: Any) -> None:
    raise _Reached


def _states(output: Any) -> Tensor:
    """Some layers answer with a tuple of states and other things."""
    return output if isinstance(output, Tensor) else output[0]


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    return (args[0] if args else kwargs["hidden_states"]).detach()


def _with_input(
    args: tuple[Any, ...], kwargs: dict[str, Any], states_BTD: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ((states_BTD, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": states_BTD})


def _of_layer(llm: Any, at: int, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = layer_prefix(llm, at)
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
