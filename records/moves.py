"""State moves. `move` is the only code that writes a `state` column, and it records the audit event and what webhooks
are to hear with it.
"""

from typing import Any

from sqlalchemy.orm import Session

from records import audit, webhooks
from records.errors import Conflict
from records.rows import JobRow, RequestRow, VersionRow
from records.states import JOB_MOVES, REQUEST_MOVES, VERSION_MOVES, JobState, RequestState, VersionState


class IllegalMove(Conflict):
    """The thing's present state does not allow what was asked."""

    code = "state_conflict"


def move(
    session: Session,
    row: RequestRow | JobRow | VersionRow,
    to: RequestState | JobState | VersionState,
    actor: str,
    **details: Any,
) -> None:
    """Move `row` to state `to` and record it. `details` are ids, counts and codes: never text of the data subject.

    Raises IllegalMove when the table in `records.states` does not allow it.
    """
    kind, allowed = _allowed(row)
    if str(to) not in allowed:
        raise IllegalMove(f"{kind} {row.id} is {row.state} and cannot become {to}.")
    details = {"from": row.state, **details}
    row.state = str(to)
    audit.record(session, f"{kind}.{to}", row.tenant_id, actor, _subject(row), details)
    _tell(session, row)


def created(session: Session, row: RequestRow | JobRow | VersionRow, actor: str, **details: Any) -> None:
    """Record that a row came into being in its first state."""
    kind, _ = _allowed(row)
    audit.record(session, f"{kind}.{row.state}", row.tenant_id, actor, _subject(row), details)
    _tell(session, row)


def _tell(session: Session, row: RequestRow | JobRow | VersionRow) -> None:
    if isinstance(row, RequestRow):
        webhooks.note_request(session, row, row.state)
    elif isinstance(row, VersionRow):
        webhooks.note_version(session, row, row.state)


def _allowed(row: RequestRow | JobRow | VersionRow) -> tuple[str, frozenset[str]]:
    if isinstance(row, RequestRow):
        return "request", frozenset(map(str, REQUEST_MOVES[RequestState(row.state)]))
    if isinstance(row, JobRow):
        return "job", frozenset(map(str, JOB_MOVES[JobState(row.state)]))
    return "version", frozenset(map(str, VERSION_MOVES[VersionState(row.state)]))


def _subject(row: RequestRow | JobRow | VersionRow) -> audit.About:
    if isinstance(row, RequestRow):
        return audit.About(model_id=row.model_id, request_id=row.id)
    if isinstance(row, JobRow):
        return audit.About(model_id=row.model_id, job_id=row.id)
    return audit.About(model_id=row.model_id, job_id=row.job_id, version=row.number)
