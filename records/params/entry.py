"""What is recorded of a method: its parameters, its card, and how its attempts grow stronger or gentler."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from records.params.training import TrainingParameters

P = TypeVar("P", bound=TrainingParameters)


@dataclass(frozen=True, slots=True)
class Passes:
    """What a method runs with its defaults, of forget and of retain rows. In a step: passes of the student, forward and
    backward, and products with a teacher's head; `once_*` are forward passes of every row before the first step.
    """

    forget: int = 1
    retain: int = 0
    teacher_heads_forget: int = 0
    teacher_heads_retain: int = 0
    once_forget: int = 0
    once_retain: int = 0

    @property
    def keep_a_teacher(self) -> bool:
        """Whether its states and its head stay in memory for the steps, which `workers/fit.py` must count."""
        return self.teacher_heads_forget + self.teacher_heads_retain > 0


@dataclass(frozen=True, slots=True)
class MethodCard:
    """What GET /v1/methods says about a method beside its JSON Schema; `passes` say to programs what `cost` says to
    readers. One that `steers` moves the states of a layer: its steps need neither the layers above nor the head.
    """

    name: str
    title: str
    paper: str
    equation: str
    needs: tuple[str, ...]
    cost: str
    passes: Passes
    steers: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """The fields to change, within their bounds, and why in words."""

    fields: dict[str, Any]
    why: str


@dataclass(frozen=True, slots=True)
class MethodEntry(Generic[P]):
    """`stronger` and `gentler` take the parameters first given and the attempt's number, 2 or more.

    Stronger after too little was forgotten, gentler after too much damage elsewhere, quieter where nothing comes back
    but the forgotten can be told from never-trained people; None: an item is done sooner, by smaller steps.
    """

    parameters: type[P]
    card: MethodCard
    stronger: Callable[[P, int], Changes]
    gentler: Callable[[P, int], Changes]
    quieter: Callable[[P, int], Changes] | None = None


def larger_steps(parameters: TrainingParameters, attempt: int) -> dict[str, Any]:
    """The step size doubled per attempt, and the update limit if there is one; twice the epochs."""
    growth = 2 ** (attempt - 1)
    limit = parameters.update_limit
    fields = {
        "learning_rate": min(1e-2, parameters.learning_rate * growth),
        "epochs": min(500, parameters.epochs * 2),
    }
    return fields if limit is None else fields | {"update_limit": min(10.0, limit * growth)}


def smaller_steps(parameters: TrainingParameters, attempt: int) -> dict[str, Any]:
    """The step size halved per attempt; as many more epochs, so that the way is as long."""
    shrink = 2 ** (attempt - 1)
    return {
        "learning_rate": max(1e-8, parameters.learning_rate / shrink),
        "epochs": min(500, parameters.epochs * shrink),
    }
