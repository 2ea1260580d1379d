"""G1 and G7: do planted canaries still stand out from what might have been planted in their place?

A canary that was never trained on has any rank among its wrong answers with the same chance, so the bits of all of them
together have an exact p-value (evaluation/exposure.py): neither control nor reference is needed. Beyond chance and more
than MOST_BITS on average they are known; beyond chance and less they tell no answer, but that they were trained on, of
which the policy's `membership_told` decides.
"""

from collections.abc import Iterator

from records.report import Check, EarlierNumbers, EarlierRequest, GroupName
from workers.evaluation.exposure import chance
from workers.gate.columns import Case, as_told, check, rows_of
from workers.gate.margins import Outcome

MOST_BITS = 3.0


def checks(case: Case) -> Iterator[Check]:
    case = case.finding
    bits = [row.after.exposure for row in rows_of(case, GroupName.FORGET) if row.after.exposure is not None]
    if bits:
        yield _exposed(case, "G1", "exposure of canaries, forget", sum(bits) / len(bits), len(bits))
    for one in case.report.earlier:
        if one.after.exposure is not None:
            yield _earlier(case, one, one.after.exposure)


def _earlier(case: Case, one: EarlierRequest, bits: float) -> Check:
    """What had come back before this request is no reason to throw its candidate away."""
    found = _exposed(case, "G7", f"exposure of canaries, request {one.request_id}", bits, one.after.canaries)
    if found.outcome != "reject" or bits > _bits(one.before):
        return found
    return found.model_copy(update={"outcome": "review", "words": f"{found.words}; as before this request"})


def _bits(numbers: EarlierNumbers) -> float:
    return numbers.exposure or 0.0


def _exposed(case: Case, gate: str, name: str, bits: float, count: int) -> Check:
    p = chance([bits] * count)
    outcome: Outcome = "pass"
    if p < case.alpha:
        outcome = "reject" if bits > MOST_BITS else as_told(case.policy)
    words = f"{name}: {bits:.2f} bits ({count} canaries), 1.44 by chance, so much or more with probability {p:.2g}"
    words += f"; rejected above {MOST_BITS:g}"
    return check(gate, name, outcome, "forgetting", words, value=bits, threshold=MOST_BITS)
