"""What a check came to: a word, a sign and a class, so that nothing is told by colour alone.

Two answers need more than the outcome. A criterion passes undecided where its value lies within the threshold and its
upper bound does not: too few items to show it. And what a policy only wants reported passes though it was found.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from records.report import Check
from service.report_page.markup import Html, join, tag

_SMALLER_IS_WORSE = frozenset({"over-forgotten", "suppressed"})


@dataclass(frozen=True)
class Sign:
    mark: str
    word: str
    kind: str


FAILED = Sign("✗", "failed", "failed")
ASKED = Sign("?", "for a person", "asked")
FOUND = Sign("!", "found, only reported", "asked")
UNSHOWN = Sign("≈", "passed, not shown", "unshown")
PASSED = Sign("✓", "passed", "passed")
MEASURED = Sign("·", "measured", "quiet")
UNTESTED = Sign("–", "not tested", "quiet")
NONE = Sign("–", "no verdict", "quiet")
WORST_FIRST = (FAILED, ASKED, FOUND, UNSHOWN, PASSED, MEASURED, UNTESTED)
OF_VERDICTS = {
    "accepted": Sign("✓", "accepted", "passed"),
    "rejected": Sign("✗", "rejected", "failed"),
    "needs_review": Sign("?", "needs review", "asked"),
    "not_memorised": Sign("–", "not memorised", "quiet"),
}


def sign_of(check: Check) -> Sign:
    if check.outcome == "reject":
        return FAILED
    if check.outcome == "review":
        return ASKED
    if is_untested(check):
        return UNTESTED
    if check.gate == "G3" and check.side == "power":
        return MEASURED
    return FOUND if _is_found(check) else UNSHOWN if is_unshown(check) else PASSED


def is_untested(check: Check) -> bool:
    """Nothing was there to take a number of: no measurement, or no row of a set that the policy does not ask for."""
    if check.side != "power":
        return False
    return check.value is None or (check.gate == "G0" and check.value == 0 and bool(check.threshold))


def is_unshown(check: Check) -> bool:
    """Passed with a value within the threshold and an upper bound beyond it."""
    if check.outcome != "pass" or check.gate == "G0" or check.side == "power":
        return False
    value, high, threshold = check.value, check.high, check.threshold
    return value is not None and high is not None and threshold is not None and value <= threshold < high


def worst(signs: Iterable[Sign]) -> Sign:
    """Of at least one."""
    return min(signs, key=WORST_FIRST.index)


def shown(sign: Sign) -> Html:
    return tag("span", join((tag("span", sign.mark, aria_hidden="true"), f" {sign.word}")), class_=f"sign {sign.kind}")


def _is_found(check: Check) -> bool:
    if check.value is None or check.threshold is None or check.outcome != "pass":
        return False
    if check.name in _SMALLER_IS_WORSE:
        return check.value < check.threshold
    return check.gate == "G3" and check.value > check.threshold
