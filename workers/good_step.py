"""The last good step of a training run, to go back to when a later one breaks the LLM, or to go on from after a crash.

A step is good when every score after it is a number and no loss has exploded. Kept are the trained parameters, what
AdamW knows of each, and the place: together they decide all that follows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from workers.sharding import as_part, joined, local, part, rank, ranks

MOST_ROLLBACKS = 3
EXPLODED_TIMES = 10.0
EXPLODED_NATS = 5.0
EXPLODED_STEPS = 3
LOOK_ROWS = 64  # retain rows that are asked before the first step
ROOM = 8
WEIGHTS = "weights"
COUNTER = "step"  # AdamW keeps its own count on the CPU, wherever the parameter is


@dataclass(slots=True)
class Place:
    """Where a run is. JSON values only.

    `retain_drawn` counts the retain rows taken so far; `watched` are the items that this round of epochs is about, none
    when all are to be asked; `repairs` counts the rounds of repair, `repaired` says whether the last steps were one;
    `rollbacks` says in words when training went back, and why; `counted` is what the method counts over the steps.
    `highest_retain_loss` is the untouched LLM's, over batches of as many rows as a step has; `highest_forget_loss` the
    first epoch's.
    """

    step: int = 0
    epochs_done: int = 0
    retain_drawn: int = 0
    watched: tuple[int, ...] = ()
    repairs: int = 0
    repaired: bool = False
    forget_loss: float | None = None
    retain_loss: float | None = None
    highest_retain_loss: float | None = None
    highest_forget_loss: float | None = None
    exploded_steps: int = 0
    rollbacks: tuple[str, ...] = ()
    counted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate_share(self) -> float:
        """Of the learning rate that is asked for: each rollback halves it."""
        return 0.5 ** len(self.rollbacks)


@dataclass(frozen=True, slots=True)
class Trained:
    """The parameters that are trained, by name, and their optimiser."""

    parameters: Mapping[str, Parameter]
    optimiser: Optimizer


@dataclass(frozen=True, slots=True)
class GoodStep:
    """`tensors` are copies: `weights/NAME`, and `KEY/NAME` for each tensor that AdamW keeps of that parameter. Of a
    sharded one it is this rank's part, unless the step is `gathered`.
    """

    place: Place
    tensors: Mapping[str, Tensor]


def exploded(now: float, first: float) -> bool:
    """now > max(10·first, first + 5), in nats.

    A loss near 0 at the start, such as a KL, may grow tenfold and still be small: five nats, a factor of 150 in each
    token's probability, are not. A loss that starts high, as of rows the LLM never knew, may rise by five by chance.
    """
    return now > max(EXPLODED_TIMES * first, first + EXPLODED_NATS)


def note_losses(place: Place, forget_loss: float | None, retain_loss: float | None) -> None:
    """Write down one step's losses, and for how many steps in a row one of them has been exploded.

    One batch is no proof: at batches of one row a single hard one can be ten times the others. Rows differ by orders
    from the start, so each loss is held against a highest: the forget loss against the first epoch's, the retain loss
    against the untouched LLM's, since an LLM that broke in the first epoch would be held against itself.
    """
    place.retain_loss = retain_loss
    if forget_loss is not None:
        place.forget_loss = forget_loss
        if place.epochs_done == 0:
            before = place.highest_forget_loss
            place.highest_forget_loss = forget_loss if before is None else max(before, forget_loss)
    pairs = ((forget_loss, place.highest_forget_loss), (retain_loss, place.highest_retain_loss))
    over = any(now is not None and first is not None and exploded(now, first) for now, first in pairs)
    place.exploded_steps = place.exploded_steps + 1 if over else 0


def take(place: Place, trained: Trained) -> GoodStep:
    """Copies, beside the parameters if there is plenty of room, else in the host's memory."""
    live = {name: local(one) for name, one in _live(trained).items()}
    device = _device_with_room(live)
    return GoodStep(replace(place), {name: _copy(one, device) for name, one in live.items()})


def gathered(good: GoodStep, trained: Trained) -> GoodStep:
    """With whole tensors, in the host's memory on rank 0 and nowhere else. All ranks must ask."""
    if ranks() == 1:
        return good
    tensors = {}
    for name, tensor in good.tensors.items():
        key, _, parameter_name = name.partition("/")
        one = tensor if key == COUNTER else joined(tensor, trained.parameters[parameter_name])
        if rank() == 0:
            tensors[name] = one.cpu()
    return GoodStep(good.place, tensors)


def divided(good: GoodStep, trained: Trained) -> GoodStep:
    """This rank's part of a step whose tensors are whole."""
    pairs = ((name, *name.partition("/")[::2], one) for name, one in good.tensors.items())
    return GoodStep(
        good.place,
        {name: one if key == COUNTER else part(one, trained.parameters[of]) for name, key, of, one in pairs},
    )


def put_back(good: GoodStep, trained: Trained) -> None:
    """The parameters and AdamW's state are as they were. Raises ValueError, changing nothing, if they do not fit."""
    if not fits(good, trained, local):
        raise ValueError("these weights are not the ones that are trained")
    optimiser = trained.optimiser
    optimiser.state.clear()
    optimiser.zero_grad(set_to_none=True)
    for name, tensor in good.tensors.items():
        key, _, parameter_name = name.partition("/")
        parameter = trained.parameters[parameter_name]
        if key == WEIGHTS:
            with torch.no_grad():
                local(parameter).copy_(tensor)
        else:
            copy = _copy(tensor, "cpu" if key == COUNTER else parameter.device)
            optimiser.state[parameter][key] = copy if key == COUNTER else as_part(copy, parameter)


def fits(good: GoodStep, trained: Trained, held: Callable[[Tensor], Tensor] = lambda one: one) -> bool:
    """Whether it holds exactly these parameters, in these shapes and dtypes; `held` says what of each."""
    kept = {name: (one.shape, one.dtype) for name, one in good.tensors.items() if name.startswith(f"{WEIGHTS}/")}
    known = {name.partition("/")[2] for name in good.tensors}
    return known == set(trained.parameters) and kept == {
        f"{WEIGHTS}/{name}": (held(one).shape, one.dtype) for name, one in trained.parameters.items()
    }


def _live(trained: Trained) -> dict[str, Tensor]:
    live: dict[str, Tensor] = {f"{WEIGHTS}/{name}": one.detach() for name, one in trained.parameters.items()}
    for name, one in trained.parameters.items():
        live |= {f"{key}/{name}": value for key, value in trained.optimiser.state.get(one, {}).items()}
    return live


def _copy(tensor: Tensor, device: torch.device | str) -> Tensor:
    """In one piece, as a file wants it."""
    return tensor.detach().to(device, copy=True, memory_format=torch.contiguous_format)


def _device_with_room(live: Mapping[str, Tensor]) -> torch.device:
    """The GPU only if several times as much is free there: gradients, AdamW's state and activations come later."""
    device = next(iter(live.values())).device
    size_bytes = sum(one.numel() * one.element_size() for one in live.values())
    if device.type == "cuda" and torch.cuda.mem_get_info(device)[0] > ROOM * size_bytes:
        return device
    return torch.device("cpu")
