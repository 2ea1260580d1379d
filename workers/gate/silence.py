"""G1, the other side: was too much removed? Silence where any never-trained LLM would say something tells who was
forgotten.
"""

from collections.abc import Iterator

from records.report import Check, GroupName
from workers.evaluation.residual_ratio import departure
from workers.gate.columns import Case, accuracy, as_told, check, people, probability, scored
from workers.gate.residuals import residual_bounds


def checks(case: Case) -> Iterator[Check]:
    yield from _improbable(case.finding)
    yield from _suppressed(case.finding)


def _improbable(case: Case) -> Iterator[Check]:
    """A probability far below a never-trained answer's marks the data out again."""
    pair = scored(case, GroupName.FORGET, probability)
    if pair is None:
        return
    forget, control = pair
    level = float(control.after.mean())
    least = case.policy.over_forgotten_ratio * level
    value = float(forget.after.mean())
    far = departure(forget, control, forget.after, control.after)
    outcome = "review" if value < least and far.interval(1 - 2 * case.alpha)[1] < 0 else "pass"
    words = (
        f"token probability of the forget rows is {value:.4f} ({people(forget.units)}), the control's {level:.4f}; "
        f"below {least:.4f} the silence itself would show"
    )
    yield check("G1", "over-forgotten", outcome, "over_forgetting", words, value=value, threshold=least)


def _suppressed(case: Case) -> Iterator[Check]:
    """Words that any never-trained answer gets right, and these do not: told apart, though nothing is known."""
    pair = scored(case, GroupName.FORGET, accuracy)
    bounds = residual_bounds(case, pair) if pair is not None else None
    if bounds is None:
        return
    least = -case.policy.suppressed
    outcome = as_told(case.policy) if bounds.value < least and bounds.high < 0 else "pass"
    words = (
        f"exact_memorisation residual, forget: {bounds.value:.3f}; below {least:g} its silence tells who was forgotten"
    )
    yield check("G1", "suppressed", outcome, "over_forgetting", words, value=bounds.value, threshold=least)
