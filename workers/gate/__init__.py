"""May this candidate be published? A pure function of the report and the policy, fixed before either existed.

    G0  was there something to forget, and can the control stand for what is never trained?     control.py
    G1  does an answer still come back word for word, was too much removed?                     verbatim.py, silence.py
        do planted canaries stand out?                                                          canaries.py
    G2  is the fact still known in other words?                                                 residuals.py
    G3  can anybody tell that the person was in the training data?                              membership.py
    G4  what else was lost, now and since the first version?                                    utility.py
    G5  are the answers still language, and not refusals?                                       quality.py
    G6  does it come back in fewer bits, after more training, when asked otherwise?             attacks.py
    G7  have earlier requests come back?                                                        earlier.py

Accepting is an intersection-union test at the attempt's share of the significance (evaluation/acceptance.py): every
criterion must pass. Each is decided in the way of margins.py, which says what happens where items are too few.
"""

from collections.abc import Iterator

from records.policy import Policy
from records.report import Check, Report, Verdict, VerdictKind
from workers.evaluation.acceptance import attempt_alpha
from workers.gate import attacks, canaries, control, earlier, membership, quality, residuals, silence, utility, verbatim
from workers.gate.columns import Case

__all__ = ["MOST_ATTEMPTS", "Verdict", "VerdictKind", "decide", "nothing_to_forget"]

MOST_ATTEMPTS = 3


def decide(report: Report, policy: Policy, attempt: int = 1) -> Verdict:
    """Rejected if any check rejects, else needs_review if any wants a person, else accepted.

    `attempt` is 1 to MOST_ATTEMPTS. The same report, policy and attempt give the same verdict.
    """
    known = _known(report, policy)
    case = Case(report, policy, attempt_alpha(attempt, MOST_ATTEMPTS, policy.significance))
    return _nothing(known) or verdict_of((known, *_checks(case)))


def nothing_to_forget(report: Report, policy: Policy) -> Verdict | None:
    """The verdict if the base version knew nothing measurable; None if it did.

    Of the report it reads the forget set's and the control's items under the base version.
    """
    return _nothing(_known(report, policy))


def _known(report: Report, policy: Policy) -> Check:
    """At the first attempt's level whichever attempt it is: the base version is the same in all."""
    return control.memorised_before(Case(report, policy, attempt_alpha(1, MOST_ATTEMPTS, policy.significance)))


def _nothing(known: Check) -> Verdict | None:
    if known.outcome != "reject":
        return None
    checks = (known.model_copy(update={"outcome": "pass"}),)
    return Verdict(kind=VerdictKind.NOT_MEMORISED, reasons=(known.words,), checks=checks)


def verdict_of(checks: tuple[Check, ...]) -> Verdict:
    """What the checks come to."""
    for outcome, kind in (("reject", VerdictKind.REJECTED), ("review", VerdictKind.NEEDS_REVIEW)):
        reasons = tuple(check.words for check in checks if check.outcome == outcome)
        if reasons:
            return Verdict(kind=kind, reasons=reasons, checks=checks)
    return Verdict(kind=VerdictKind.ACCEPTED, reasons=tuple(_accepted(checks)), checks=checks)


def _accepted(checks: tuple[Check, ...]) -> Iterator[str]:
    """What there was to forget; how much was asked and kept; what could not be shown; by what people are told apart."""
    yield checks[0].words
    asked = [check for check in checks if check.side != "power" and check.gate != "G0"]
    yield f"all of {len(asked)} criteria are kept"
    unshown = [check.name for check in asked if _not_shown(check)]
    if unshown:
        yield f"too few items to show {len(unshown)} of them: {'; '.join(unshown)}"
    yield from (check.words for check in checks if check.gate == "G3" and _beyond(check))
    yield from (check.words for check in checks if check.gate == "G6" and check.name.endswith(attacks.UNMEASURED))


def _not_shown(check: Check) -> bool:
    """A margin whose upper bound is not within it."""
    return check.high is not None and check.threshold is not None and check.high > check.threshold


def _beyond(check: Check) -> bool:
    return check.side != "power" and (check.value or 0.0) > (check.threshold or 0.0)


def _checks(case: Case) -> Iterator[Check]:
    yield from control.checks(case)
    yield from verbatim.checks(case)
    yield from canaries.checks(case)
    yield from residuals.checks(case)
    yield from silence.checks(case)
    yield from membership.checks(case)
    yield from utility.checks(case)
    yield from quality.checks(case)
    yield from attacks.checks(case)
    yield from earlier.checks(case)
