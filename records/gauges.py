"""Counts for the metrics page, over all tenants: read from the rows at scrape time, so that any replica may answer."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit
from records.base import utc_now
from records.database import database_seconds
from records.rows import JobRow, ModelRow, OutboxRow, RequestRow, VersionRow
from records.states import TERMINAL_REQUEST_STATES, JobState


@dataclass(frozen=True)
class Gauges:
    """`oldest_queued_at` is None when nothing waits."""

    requests: dict[str, int]
    jobs: dict[str, int]
    versions: dict[str, int]
    models: int
    models_held: int
    overdue_requests: int
    outbox_waiting: int
    audit_entries: int
    oldest_queued_at: datetime | None


def read(session: Session) -> Gauges:
    """All counts in one consistent read."""
    oldest = sa.select(sa.func.min(JobRow.created_at)).where(JobRow.state == JobState.QUEUED)
    unfinished = RequestRow.state.not_in(TERMINAL_REQUEST_STATES)
    return Gauges(
        requests=_by_state(session, RequestRow),
        jobs=_by_state(session, JobRow),
        versions=_by_state(session, VersionRow),
        models=_count(session, ModelRow),
        models_held=_count(session, ModelRow, ModelRow.lease_expires_at > database_seconds()),
        overdue_requests=_count(session, RequestRow, unfinished, RequestRow.due_at < utc_now()),
        outbox_waiting=_count(session, OutboxRow, OutboxRow.sent_at.is_(None)),
        audit_entries=audit.log_size(session),
        oldest_queued_at=session.scalar(oldest),
    )


def _by_state(session: Session, row: type[RequestRow | JobRow | VersionRow]) -> dict[str, int]:
    query = sa.select(row.state, sa.func.count()).group_by(row.state)
    return dict(session.execute(query).all())


def _count(session: Session, row: type[ModelRow | RequestRow | OutboxRow], *where: sa.ColumnElement[bool]) -> int:
    return session.scalar(sa.select(sa.func.count()).select_from(row).where(*where)) or 0
