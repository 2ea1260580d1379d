"""What to try next, given what was tried: the declared order of stronger attempts, and room when memory ran out.

The rows of a job's attempts say it all, so that a job resumed after a crash goes on where it was: a report holds what
the gate asked, and an attempt that failed before the gate keeps its failure's code at the front of its reason.
"""

from collections.abc import Container, Iterable, Sequence
from typing import Literal

from records import params
from records.attempts import for_review
from records.params import Attempt, TrainingParameters, escalate
from records.policy import Policy
from records.report import Report, Verdict, VerdictKind, failure_of
from records.rows import AttemptRow
from workers.failures import Failure
from workers.gate import MOST_ATTEMPTS, decide

__all__ = [
    "MOST_ATTEMPTS",
    "WORTH_ANOTHER",
    "Miss",
    "all_spent",
    "failed_reason",
    "failure_at_the_end",
    "for_a_person",
    "judged_reason",
    "miss_of",
    "misses_of",
    "next_attempt",
    "of_consolidation",
    "only_a_person_can",
    "sentences",
    "to_make",
]

WORTH_ANOTHER = frozenset({"diverged", "out_of_memory", "consolidation"})

Miss = params.Failure | Literal["memory", "consolidation"]


def next_attempt(given: TrainingParameters, misses: Sequence[Miss]) -> Attempt:
    """The attempt after these misses. Running out of memory changes the micro batch and nothing else; a consolidation
    that missed is followed by the same parameters on the newest version.
    """
    others: list[params.Failure] = [miss for miss in misses if miss != "memory" and miss != "consolidation"]
    starved = misses.count("memory")
    attempt = escalate(given, 1 + len(others), others[-1] if others else "forgetting", others[:-1])
    return _smaller(attempt, starved) if starved else attempt


def miss_of(failure: Failure) -> Miss:
    """Which way to turn after an attempt that failed before the gate: a diverged one took steps that were too large."""
    if failure.code == "consolidation":
        return "consolidation"
    return "memory" if failure.code == "out_of_memory" else "utility"


def failure_at_the_end(attempts: Sequence[AttemptRow]) -> Failure | None:
    """What the last attempt failed of before the gate, by its row."""
    return _failure_in(attempts[-1].reason) if attempts[-1].verdict is None else None


def of_consolidation(failure: Failure) -> Failure:
    """What ends a consolidation need not end an ordinary attempt; memory for that one may be short all the same."""
    return failure if failure.code == "out_of_memory" else Failure("consolidation", failed_reason(failure))


def to_make(attempts: Sequence[AttemptRow], held: Container[int]) -> int | None:
    """The number of the attempt to make now: the next, or, once they are spent, the one that a person is to see, if its
    candidate is not among those `held`. None where the attempts are spent and nothing is missing.
    """
    if len(attempts) < MOST_ATTEMPTS and not (attempts and _ended_it(attempts[-1])):
        return len(attempts) + 1
    best = for_review(attempts)
    return None if best is None or best.number in held else best.number


def _ended_it(attempt: AttemptRow) -> bool:
    return attempt.verdict is None and attempt.reason.partition(": ")[0] not in WORTH_ANOTHER


def only_a_person_can(verdict: Verdict) -> bool:
    """Whether all that stands against the candidate is of a kind that no attempt changes, such as a small control."""
    asked = [check.side for check in verdict.checks if check.outcome == "review"]
    return verdict.kind is VerdictKind.NEEDS_REVIEW and set(asked) == {"power"}


def _turned(found: Miss, report: Report) -> Miss:
    """Training that had to go back took steps that were too large, whatever is left."""
    if report.training.get("anew"):
        return "consolidation"
    return "utility" if report.training.get("rollbacks") else found


def failed_reason(failure: Failure) -> str:
    return f"{failure.code}: {failure.sentence}"


def judged_reason(attempt: Attempt, verdict: Verdict) -> str:
    """Why these parameters, and what the gate said of them."""
    return sentences((attempt.why, *verdict.reasons))


def sentences(parts: Iterable[str]) -> str:
    return " ".join(f"{part}." for part in parts)


def all_spent(attempts: Sequence[AttemptRow]) -> str:
    return f"None of {len(attempts)} attempts passed the gate. The last: {attempts[-1].reason}"


def for_a_person(verdict: Verdict, number: int, attempts: int) -> str:
    """What is asked of a person; `number` is the attempt's."""
    why = f"attempt {number} of {attempts} fails the fewest criteria"
    return sentences(verdict.reasons if attempts == 1 else (why, *verdict.reasons))


def misses_of(attempts: Iterable[AttemptRow], policy: Policy) -> list[Miss]:
    """What each attempt missed, by its row."""
    return [_miss_of_row(attempt, policy) for attempt in attempts]


def _miss_of_row(attempt: AttemptRow, policy: Policy) -> Miss:
    """As the gate found it then: a report says what was asked of it. One of before that time is asked again."""
    if attempt.verdict is not None and attempt.report is not None:
        report = Report.model_validate(attempt.report)
        checks = report.checks or decide(report, policy, min(MOST_ATTEMPTS, attempt.number or 1)).checks
        return _turned(failure_of(checks), report)
    return miss_of(_failure_in(attempt.reason))


def _failure_in(reason: str) -> Failure:
    code, _, sentence = reason.partition(": ")
    return Failure(code, sentence)


def _smaller(attempt: Attempt, times: int) -> Attempt:
    parameters = attempt.parameters
    size = max(1, (parameters.micro_batch_size or parameters.batch_size) // 4**times)
    why = f"{attempt.why}; {size} examples in memory at once, since memory ran out"
    return Attempt(type(parameters).model_validate({**parameters.model_dump(), "micro_batch_size": size}), why)
