"""What becomes of a job whose runner has ended without settling it: one table, then one write.

A runner that publishes, rejects or sends to review writes that itself; the write here then finds the job no longer
running and changes nothing.
"""

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from records import jobs
from records.jobs import Claim


class Why(StrEnum):
    """Why the supervisor told a runner to end."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    STOPPING = "stopping"
    LOST = "lost"


class How(StrEnum):
    """What is done with the job."""

    NOTHING = "nothing"
    CANCEL = "cancel"
    FAIL = "fail"
    QUEUE = "queue"
    QUEUE_UNCOUNTED = "queue_uncounted"
    QUEUE_LATER = "queue_later"


@dataclass(frozen=True)
class Ending:
    """How a runner ended: who asked for it, its exit status (-9 = killed), its error line if it wrote one."""

    why: Why | None
    status: int
    error: dict[str, Any] | None


@dataclass(frozen=True)
class Settlement:
    how: How
    code: str = ""
    sentence: str = ""


_BY_CODE = {
    "lease_lost": How.NOTHING,
    "head_moved": How.QUEUE,
    "database_refused": How.QUEUE,
    "database_away": How.QUEUE_LATER,  # no fault of the job, and it may last: not counted, and not tried at once
    "store_away": How.QUEUE_LATER,
    "cancelled": How.CANCEL,
    "stopped": How.QUEUE_UNCOUNTED,
}


def settlement(end: Ending, timeout_seconds: float) -> Settlement:
    """The table. Who asked counts for more than what the runner said while it was ending."""
    if end.why is Why.LOST:
        return Settlement(How.NOTHING, "lease_lost")
    if end.why is Why.CANCELLED:
        return Settlement(How.CANCEL, "cancelled")
    if end.why is Why.STOPPING:
        return Settlement(How.QUEUE_UNCOUNTED, "stopped", "the worker was stopped")
    if end.why is Why.TIMEOUT:
        sentence = (
            f"The job ran longer than {timeout_seconds:g} seconds and was stopped. "
            "Ask for fewer epochs or examples, or raise LETHE_JOB_TIMEOUT_SECONDS."
        )
        return Settlement(How.FAIL, "timeout", sentence)
    if end.error is not None:
        code, sentence = str(end.error.get("code", "unexpected")), str(end.error.get("sentence", ""))
        return Settlement(_BY_CODE.get(code, How.FAIL), code, sentence)
    return Settlement(How.QUEUE, "runner_died", f"the runner ended with {_spoken(end.status)}")


def settle(session: Session, held: Claim, end: Settlement, retry_seconds: float = 0.0) -> None:
    """Write it. A job that waits for something outside is not started again before `retry_seconds`.

    Raises LeaseLost when the job is not this worker's to settle (any more).
    """
    if end.how is How.CANCEL:
        jobs.cancelled(session, held)
    elif end.how is How.FAIL:
        jobs.fail(session, held, end.code, end.sentence)
    elif end.how is How.QUEUE:
        jobs.hand_back(session, held, end.code, counts=True)
    elif end.how is How.QUEUE_UNCOUNTED:
        jobs.hand_back(session, held, end.code, counts=False)
    elif end.how is How.QUEUE_LATER:
        jobs.hand_back(session, held, end.code, counts=False, wait_seconds=retry_seconds)


def _spoken(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
