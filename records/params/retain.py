"""The retain term most methods share: its fields, and how an attempt leans on it more."""

from typing import Annotated, Any, Literal

from pydantic import Field

from records.params.entry import Changes, larger_steps, smaller_steps
from records.params.training import TrainingParameters

RetainKind = Annotated[
    Literal["none", "nll", "kl"],
    Field(description="On retain rows: none; nll, their labels; kl, what the LLM said there before."),
]
RetainWeight = Annotated[float, Field(ge=0.0, le=1000.0, description="Weight of the retain loss.")]
RetainSource = Annotated[
    Literal["retain", "utility"],
    Field(description="Dataset the retain rows come from; this method's name means general text."),
]


def gentler(parameters: TrainingParameters, attempt: int) -> Changes:
    """Smaller steps and, where the method has a retain term, a heavier one: KL if there was none."""
    fields = smaller_steps(parameters, attempt)
    why = f"other examples were damaged: step size {fields['learning_rate']:g}, up to {fields['epochs']} epochs"
    weight = getattr(parameters, "retain_weight", None)
    if weight is None:
        return Changes(fields, why)
    fields["retain_weight"] = min(1000.0, max(weight, 1.0) * 2 ** (attempt - 1))
    if getattr(parameters, "retain_kind", None) == "none":
        fields["retain_kind"] = "kl"
        why += ", KL on retain rows"
    return Changes(fields, f"{why}, retain weight {fields['retain_weight']:g}")


def stronger(parameters: TrainingParameters, attempt: int, **also: Any) -> Changes:
    """Larger steps, and `also`."""
    fields = larger_steps(parameters, attempt) | also
    changed = "".join(f", {name} {value:g}" for name, value in also.items())
    why = f"too little was forgotten: step size {fields['learning_rate']:g}, up to {fields['epochs']} epochs{changed}"
    return Changes(fields, why)
