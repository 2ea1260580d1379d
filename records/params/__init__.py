"""The parameters of each unlearning method: names, bounds, units, defaults, and the order of stronger
attempts. One file a family; the table below is all there is to register.

Methods themselves take plain keyword numbers and know nothing of this package; a test compares the two.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from records.params.ascent import (
    ASCENT_DESCENT,
    ASCENT_DESCENT_GENERAL,
    ASCENT_KL,
    ASCENT_KL_GENERAL,
    GRADIENT_ASCENT,
)
from records.params.entry import MethodCard, MethodEntry
from records.params.escalation import FAILURES, Attempt, Failure, turned
from records.params.preference import IDK_DPO, NPO, SIMNPO
from records.params.relabel import ADVERSARIAL_LABELS, RANDOM_LABELS
from records.params.reweighted import CE_U, WGA
from records.params.steering import FALCON, RMU
from records.params.training import TrainingParameters
from records.params.undial import UNDIAL, UndialParameters

__all__ = [
    "ENTRIES",
    "FAILURES",
    "METHOD_CARDS",
    "PARAMETERS",
    "Attempt",
    "Failure",
    "MethodCard",
    "MethodEntry",
    "MethodName",
    "TrainingParameters",
    "UndialParameters",
    "escalate",
    "parse_parameters",
]


class MethodName(StrEnum):
    UNDIAL = "undial"
    GRADIENT_ASCENT = "gradient_ascent"
    RANDOM_LABELS = "random_labels"
    ADVERSARIAL_LABELS = "adversarial_labels"
    ASCENT_DESCENT = "ascent_descent"
    ASCENT_DESCENT_GENERAL = "ascent_descent_general"
    ASCENT_KL = "ascent_kl"
    ASCENT_KL_GENERAL = "ascent_kl_general"
    NPO = "npo"
    SIMNPO = "simnpo"
    IDK_DPO = "idk_dpo"
    CE_U = "ce_u"
    WGA = "wga"
    RMU = "rmu"
    FALCON = "falcon"


ENTRIES: dict[str, MethodEntry[Any]] = {
    MethodName.UNDIAL: UNDIAL,
    MethodName.GRADIENT_ASCENT: GRADIENT_ASCENT,
    MethodName.RANDOM_LABELS: RANDOM_LABELS,
    MethodName.ADVERSARIAL_LABELS: ADVERSARIAL_LABELS,
    MethodName.ASCENT_DESCENT: ASCENT_DESCENT,
    MethodName.ASCENT_DESCENT_GENERAL: ASCENT_DESCENT_GENERAL,
    MethodName.ASCENT_KL: ASCENT_KL,
    MethodName.ASCENT_KL_GENERAL: ASCENT_KL_GENERAL,
    MethodName.NPO: NPO,
    MethodName.SIMNPO: SIMNPO,
    MethodName.IDK_DPO: IDK_DPO,
    MethodName.CE_U: CE_U,
    MethodName.WGA: WGA,
    MethodName.RMU: RMU,
    MethodName.FALCON: FALCON,
}

PARAMETERS: dict[str, type[TrainingParameters]] = {name: entry.parameters for name, entry in ENTRIES.items()}
METHOD_CARDS: dict[str, MethodCard] = {name: entry.card for name, entry in ENTRIES.items()}


def parse_parameters(method: str, given: Mapping[str, Any]) -> TrainingParameters:
    """Defaults filled in, types and bounds checked. KeyError for an unknown method, ValidationError for a bad
    value: true is no number, and neither is "0.001".
    """
    return PARAMETERS[method].model_validate({name: _typed(value) for name, value in given.items()}, strict=True)


def _typed(value: Any) -> Any:
    """JSON's lists are our tuples, and its 30.0 is the integer 30."""
    if isinstance(value, list):
        return tuple(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def escalate(
    parameters: TrainingParameters, attempt: int, failure: Failure = "forgetting", before: Sequence[Failure] = ()
) -> Attempt:
    """The parameters of attempt 1, 2, 3…, each derived from the ones first given, never from a failed attempt.

    `failure` is what the last attempt missed, `before` what those before it did.
    """
    if attempt < 1:
        raise ValueError(f"attempt must be 1 or more, not {attempt}")
    if attempt == 1:
        return Attempt(parameters, "the parameters as given")
    (entry,) = (one for one in ENTRIES.values() if one.parameters is type(parameters))
    return turned(entry, parameters, attempt, failure, before)
