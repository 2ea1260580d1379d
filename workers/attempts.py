"""What to try next, given what was tried: the declared order of stronger attempts, and room when memory ran out.

An attempt that failed before the gate keeps its failure's code at the front of its reason, so that a job resumed after
a crash goes on where it was.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from records import params
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
    "judged_reason",
    "miss_of",
    "miss_of_rejected",
    "misses_of",
    "next_attempt",
    "sentences",
]

WORTH_ANOTHER = frozenset({"diverged", "out_of_memory"})

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
    return "memory" if failure.code == "out_of_memory" else "utility"


def miss_of_rejected(verdict: Verdict, report: Report) -> Miss:
    """What the gate found wanting. Training that had to go back took steps that were too large, whatever is left."""
    return _turned(verdict.failure, report)


def _turned(found: Miss, report: Report) -> Miss:
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


def all_spent(verdict: Verdict) -> str:
    return f"None of {MOST_ATTEMPTS} attempts passed the gate. The last: " + "; ".join(verdict.reasons) + "."


def misses_of(attempts: Iterable[AttemptRow], policy: Policy) -> list[Miss]:
    """The misses of attempts recorded before a crash."""
    return [_miss_of_row(attempt, policy) for attempt in attempts]


def _miss_of_row(attempt: AttemptRow, policy: Policy) -> Miss:
    """As the gate found it then: a report says what was asked of it. One of before that time is asked again."""
    if attempt.verdict == VerdictKind.REJECTED and attempt.report is not None:
        report = Report.model_validate(attempt.report)
        if report.checks:
            return _turned(failure_of(report.checks), report)
        return miss_of_rejected(decide(report, policy, min(MOST_ATTEMPTS, attempt.number or 1)), report)
    code, _, sentence = attempt.reason.partition(": ")
    return miss_of(Failure(code, sentence))


def _smaller(attempt: Attempt, times: int) -> Attempt:
    parameters = attempt.parameters
    size = max(1, (parameters.micro_batch_size or parameters.batch_size) // 4**times)
    why = f"{attempt.why}; {size} examples in memory at once, since memory ran out"
    return Attempt(type(parameters).model_validate({**parameters.model_dump(), "micro_batch_size": size}), why)
