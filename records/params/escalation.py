"""What to try after a failed attempt: what the gate found wanting says which way to turn.

    forgetting       stronger, as the method's entry says
    paraphrases      stronger, and trained on those paraphrases too that guide the stop and on more rewordings
    over_forgetting  as the method's entry says, or smaller steps and an item done sooner: nothing comes back, but the
                     forgotten can be told from never-trained people
    utility          gentler, as the method's entry says
    precision        larger steps on fewer matrices: a weight must leave its bucket of the coarse grid
    relearning       stronger, and more steps on retain rows in between, after which what came back is forgotten again

Every attempt is derived from the parameters first given, never from a failed attempt's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from records.params.entry import Changes, MethodEntry, larger_steps, smaller_steps
from records.params.training import TrainingParameters

Failure = Literal["forgetting", "paraphrases", "precision", "relearning", "over_forgetting", "utility"]
FAILURES: tuple[Failure, ...] = get_args(Failure)
REPAIR_STEPS = 20
MORE_REWORDINGS, MOST_REWORDINGS = 3, 30


@dataclass(frozen=True, slots=True)
class Attempt:
    parameters: TrainingParameters
    why: str


def turned(
    entry: MethodEntry[Any], parameters: TrainingParameters, attempt: int, failure: Failure, before: Iterable[Failure]
) -> Attempt:
    """The parameters of attempt 2, 3…; what an attempt `before` the last missed in paraphrases stays mended."""
    changes = _changes(entry, parameters, attempt, failure)
    fields = changes.fields
    if "paraphrases" in before and failure != "paraphrases":
        fields = fields | _all_wordings(parameters, 2)
    return Attempt(type(parameters).model_validate(parameters.model_dump() | fields), changes.why)


def _changes(entry: MethodEntry[Any], parameters: TrainingParameters, attempt: int, failure: Failure) -> Changes:
    match failure:
        case "utility":
            return entry.gentler(parameters, attempt)
        case "over_forgetting":
            return (entry.quieter or _sooner)(parameters, attempt)
        case "precision":
            return _farther(parameters, attempt)
        case "paraphrases":
            wordings = _all_wordings(parameters, attempt)
            why = (
                "the answers come back in other words: train on half of the paraphrases too, and on "
                f"{wordings['rewordings']} rewordings"
            )
            return _stronger(entry, parameters, attempt, why, **wordings)
        case "relearning":
            steps = min(10_000, max(REPAIR_STEPS, parameters.repair_steps) * 2 ** (attempt - 1))
            why = f"the answers came back by training: {steps} steps on retain rows before each look back"
            return _stronger(entry, parameters, attempt, why, repair_steps=steps)
        case "forgetting":
            return entry.stronger(parameters, attempt)


def _all_wordings(parameters: TrainingParameters, attempt: int) -> dict[str, Any]:
    more = min(MOST_REWORDINGS, parameters.rewordings + MORE_REWORDINGS * (attempt - 1))
    return {"forget_paraphrases": True, "rewordings": more}


def _stronger(entry: MethodEntry[Any], parameters: TrainingParameters, attempt: int, why: str, **also: Any) -> Changes:
    changes = entry.stronger(parameters, attempt)
    return Changes(changes.fields | also, f"{why}; {changes.why}")


def _sooner(parameters: TrainingParameters, attempt: int) -> Changes:
    fields = smaller_steps(parameters, attempt) | {
        "stop_ratio": max(parameters.stop_ratio, min(10.0, parameters.stop_ratio * 2 ** (attempt - 1)))
    }
    why = (
        f"too much was forgotten: an item is done at {fields['stop_ratio']:g} times the never-trained level, "
        f"step size {fields['learning_rate']:g}, up to {fields['epochs']} epochs"
    )
    return Changes(fields, why)


def _farther(parameters: TrainingParameters, attempt: int) -> Changes:
    fields = larger_steps(parameters, attempt)
    where = "adapters" if parameters.tuning == "lora" else "named matrices alone"
    if parameters.tuning == "full":
        fields |= {"tuning": "named"}
    why = f"coarser weights bring the answers back: step size {fields['learning_rate']:g} on {where}"
    return Changes(fields, why)
