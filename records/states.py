"""The allowed moves of requests, jobs and versions: three tables, nothing else.

`records.moves.move` is the only code that changes a state; it asks these tables.
"""

from enum import StrEnum


class RequestState(StrEnum):
    RECEIVED = "received"
    QUEUED = "queued"
    RUNNING = "running"
    NEEDS_REVIEW = "needs_review"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class Outcome(StrEnum):
    """Why a request is `completed`."""

    FORGOTTEN = "forgotten"
    NOT_MEMORISED = "not_memorised"
    NO_MATCH = "no_match"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """Where a running job is."""

    LOAD = "load"
    UNLEARN = "unlearn"
    EVALUATE = "evaluate"
    PUBLISH = "publish"


class VersionState(StrEnum):
    CANDIDATE = "candidate"
    PUBLISHED = "published"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"
    PURGED = "purged"
    REJECTED = "rejected"
    LEGAL_HOLD = "legal_hold"


_R, _J, _V = RequestState, JobState, VersionState

REQUEST_MOVES: dict[RequestState, frozenset[RequestState]] = {
    _R.RECEIVED: frozenset({_R.QUEUED, _R.COMPLETED, _R.REJECTED, _R.CANCELLED, _R.FAILED}),
    _R.QUEUED: frozenset({_R.RUNNING, _R.CANCELLED, _R.REJECTED, _R.FAILED}),
    _R.RUNNING: frozenset({_R.COMPLETED, _R.NEEDS_REVIEW, _R.FAILED, _R.CANCELLED}),
    _R.NEEDS_REVIEW: frozenset({_R.COMPLETED, _R.FAILED}),
    _R.COMPLETED: frozenset(),
    _R.FAILED: frozenset(),
    _R.CANCELLED: frozenset(),
    _R.REJECTED: frozenset(),
}

JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    _J.QUEUED: frozenset({_J.RUNNING, _J.CANCELLED, _J.FAILED}),
    _J.RUNNING: frozenset({_J.SUCCEEDED, _J.REJECTED, _J.FAILED, _J.CANCELLED, _J.QUEUED}),
    _J.SUCCEEDED: frozenset(),
    _J.REJECTED: frozenset(),
    _J.FAILED: frozenset(),
    _J.CANCELLED: frozenset(),
}

VERSION_MOVES: dict[VersionState, frozenset[VersionState]] = {
    _V.CANDIDATE: frozenset({_V.PUBLISHED, _V.REJECTED}),
    _V.PUBLISHED: frozenset({_V.SUPERSEDED, _V.QUARANTINED, _V.LEGAL_HOLD}),
    _V.SUPERSEDED: frozenset({_V.QUARANTINED, _V.LEGAL_HOLD}),
    _V.QUARANTINED: frozenset({_V.PURGED, _V.LEGAL_HOLD}),
    _V.LEGAL_HOLD: frozenset({_V.QUARANTINED}),
    _V.PURGED: frozenset(),
    _V.REJECTED: frozenset({_V.PURGED}),
}

TERMINAL_REQUEST_STATES = frozenset(state for state, moves in REQUEST_MOVES.items() if not moves)
TERMINAL_JOB_STATES = frozenset(state for state, moves in JOB_MOVES.items() if not moves)
