"""The parameters of each unlearning method: names, bounds, units, defaults, and the order of stronger
attempts.

Methods themselves take plain keyword numbers and know nothing of this file; a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field


class MethodName(StrEnum):
    UNDIAL = "undial"


class TrainingParameters(BaseModel):
    """What the one training loop reads, whichever method runs in it.

    The only base class of this file: the wire format is flat, and twelve fields repeated per method would
    drift.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(default=1e-4, ge=1e-8, le=1e-2, description="AdamW step size.")
    epochs: int = Field(default=30, ge=1, le=500, description="Passes over the forget set, at most.")
    max_steps: int | None = Field(default=None, ge=1, le=1_000_000, description="Optimiser steps, at most.")
    batch_size: int = Field(default=8, ge=1, le=4096, description="Forget examples per optimiser step.")
    micro_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Examples in memory at once; gradients of a batch are accumulated.",
    )
    schedule: Literal["constant", "linear"] = Field(default="constant", description="Linear falls to 0 at the end.")
    warmup_steps: int = Field(default=0, ge=0, le=100_000, description="Steps over which the step size rises from 0.")
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0, description="AdamW's decoupled decay.")
    gradient_clip: float = Field(default=1.0, gt=0.0, le=1e6, description="Largest norm of one step's gradient.")
    tuning: Literal["full", "lora"] = Field(default="full", description="All weights, or adapters merged afterwards.")
    lora_rank: int = Field(default=16, ge=1, le=1024, description="Rank of each adapter; read when tuning is lora.")
    lora_alpha: float = Field(default=32.0, gt=0.0, le=4096.0, description="Adapter scale is alpha / rank.")
    lora_targets: tuple[str, ...] | Literal["all-linear"] = Field(
        default="all-linear", description="Module names to adapt, or every linear layer but the head."
    )
    stop_ratio: float = Field(
        default=1.05,
        ge=0.1,
        le=10.0,
        description="An item is done at this multiple of the never-trained level.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Decides batches and adapter initialisation.")


class UndialParameters(TrainingParameters):
    """UnDIAL: learn the teacher's own distribution with the label's probability cut."""

    target: Literal["gamma", "floor"] = Field(
        default="gamma",
        description=(
            "gamma: subtract `strength` from the label's logit (the paper). floor: cut its probability to `floor`."
        ),
    )
    strength: float = Field(default=10.0, ge=0.0, le=100.0, description="γ, in logits; read when target is gamma.")
    floor: float = Field(
        default=0.02,
        ge=1e-9,
        le=0.5,
        description="Most probability the label keeps; read when target is floor.",
    )
    retain_kind: Literal["none", "nll", "distill"] = Field(
        default="distill",
        description="distill: stay at the teacher on retain rows. nll: their labels. none: no term.",
    )
    retain_weight: float = Field(default=1.0, ge=0.0, le=1000.0, description="Weight of the retain loss.")


PARAMETERS: dict[str, type[UndialParameters]] = {MethodName.UNDIAL: UndialParameters}


@dataclass(frozen=True, slots=True)
class MethodCard:
    """What GET /v1/methods says about a method beside its JSON Schema."""

    name: str
    title: str
    paper: str
    equation: str
    needs: tuple[str, ...]
    cost: str


METHOD_CARDS: dict[str, MethodCard] = {
    MethodName.UNDIAL: MethodCard(
        name=MethodName.UNDIAL,
        title="UnDIAL: self-distillation with adjusted logits",
        paper="Dong et al., NAACL 2025, arXiv:2402.10052",
        equation=("L = -(1/N) Σ_n Σ_v q(v) log p(v), q = softmax(z_teacher - γ·onehot(label)) over labelled tokens"),
        needs=(
            "forget set",
            "retain dataset (recommended; without one neighbours are damaged)",
            "teacher: cached",
        ),
        cost=("3 forward units per forget and retain batch, one teacher forward per example, one head matmul more"),
    )
}


def parse_parameters(method: str, given: Mapping[str, Any]) -> UndialParameters:
    """Defaults filled in and bounds checked. KeyError for an unknown method, ValidationError for a bad
    value.
    """
    return PARAMETERS[method].model_validate(dict(given))


Failure = Literal["forgetting", "utility"]
FAILURES: tuple[str, ...] = get_args(Failure)


@dataclass(frozen=True, slots=True)
class Attempt:
    parameters: UndialParameters
    why: str


def escalate(parameters: UndialParameters, attempt: int, failure: Failure = "forgetting") -> Attempt:
    """The parameters of attempt 1, 2, 3…, each derived from the ones first given, never from a failed
    attempt.

    `failure` is what the last attempt missed. Too little forgotten: first the floor target, which fits
    every token whatever its probability, then larger steps. Too much damage elsewhere: smaller steps and
    a heavier retain term.
    """
    if attempt < 1:
        raise ValueError(f"attempt must be 1 or more, not {attempt}")
    if attempt == 1:
        return Attempt(parameters, "the parameters as given")
    if failure == "utility":
        return _gentler(parameters, attempt)
    return _stronger(parameters, attempt)


def _stronger(parameters: UndialParameters, attempt: int) -> Attempt:
    growth = 2 ** (attempt - 1)
    changes: dict[str, Any] = {
        "target": "floor",
        "floor": max(1e-9, 2 * parameters.floor / growth),
        "learning_rate": min(1e-2, parameters.learning_rate * growth),
        "epochs": min(500, parameters.epochs * 2),
    }
    why = (
        f"too little was forgotten: cut each label's probability to {changes['floor']:g}, "
        f"step size {changes['learning_rate']:g}, up to {changes['epochs']} epochs"
    )
    return Attempt(_changed(parameters, changes), why)


def _gentler(parameters: UndialParameters, attempt: int) -> Attempt:
    shrink = 2 ** (attempt - 1)
    changes: dict[str, Any] = {
        "learning_rate": max(1e-8, parameters.learning_rate / shrink),
        "epochs": min(500, parameters.epochs * shrink),
        "retain_weight": min(1000.0, max(parameters.retain_weight, 1.0) * shrink),
        "retain_kind": "distill" if parameters.retain_kind == "none" else parameters.retain_kind,
    }
    why = (
        f"other examples were damaged: step size {changes['learning_rate']:g}, up to "
        f"{changes['epochs']} epochs, "
        f"retain weight {changes['retain_weight']:g} ({changes['retain_kind']})"
    )
    return Attempt(_changed(parameters, changes), why)


def _changed(parameters: UndialParameters, changes: Mapping[str, Any]) -> UndialParameters:
    return type(parameters).model_validate(parameters.model_dump() | dict(changes))
