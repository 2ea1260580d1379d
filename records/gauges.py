"""Counts for the metrics page, over all tenants: read from the rows at scrape time, so that any replica may answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit
from records.base import utc_now
from records.database import database_seconds, epoch_seconds
from records.rows import AttemptRow, DeliveryRow, JobRow, ModelRow, OutboxRow, RequestRow, VersionRow, WebhookRow
from records.states import TERMINAL_REQUEST_STATES, JobState, RequestState, VersionState

BUCKETS_SECONDS = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0, 7 * 24 * 3600.0)


@dataclass(frozen=True)
class Spread:
    """How long something took: how many took at most each of BUCKETS_SECONDS, how many in all, their sum."""

    at_most: tuple[int, ...]
    count: int
    sum_seconds: float


@dataclass(frozen=True)
class Gauges:
    """Times are None when there is nothing to be timed."""

    requests: dict[str, int]
    jobs: dict[str, int]
    jobs_waiting: dict[str, int]
    job_restarts: int
    job_wait: Spread
    job_run: Spread
    attempts: dict[tuple[str, str], int]
    versions: dict[str, int]
    version_bytes: int
    models: int
    models_held: int
    leases_expired: int
    overdue_requests: int
    next_due_at: datetime | None
    oldest_review_at: datetime | None
    outbox_waiting: int
    deliveries_waiting: int
    oldest_delivery_at: datetime | None
    webhooks_disabled: int
    audit_entries: int
    oldest_queued_at: datetime | None


def read(session: Session) -> Gauges:
    """All counts in one consistent read."""
    unfinished = RequestRow.state.not_in(TERMINAL_REQUEST_STATES)
    queued = JobRow.state == JobState.QUEUED
    waiting = DeliveryRow.next_at.is_not(None)
    return Gauges(
        requests=_by(session, RequestRow.state),
        jobs=_by(session, JobRow.state),
        jobs_waiting=_by(session, JobRow.needs, queued),
        job_restarts=int(_sum(session, JobRow.executions - 1, JobRow.executions > 1)),
        job_wait=_spread(session, JobRow.created_at, JobRow.started_at),
        job_run=_spread(session, JobRow.started_at, JobRow.finished_at),
        attempts=_attempts(session),
        versions=_by(session, VersionRow.state),
        version_bytes=int(_sum(session, VersionRow.size_bytes, VersionRow.state != VersionState.PURGED)),
        models=_count(session, ModelRow),
        models_held=_count(session, ModelRow, ModelRow.lease_expires_at > database_seconds()),
        leases_expired=_count(
            session, ModelRow, ModelRow.lease_owner.is_not(None), ModelRow.lease_expires_at < database_seconds()
        ),
        overdue_requests=_count(session, RequestRow, unfinished, RequestRow.due_at < utc_now()),
        next_due_at=_first(session, RequestRow.due_at, unfinished),
        oldest_review_at=_first(session, RequestRow.updated_at, RequestRow.state == RequestState.NEEDS_REVIEW),
        outbox_waiting=_count(session, OutboxRow, OutboxRow.sent_at.is_(None)),
        deliveries_waiting=_count(session, DeliveryRow, waiting),
        oldest_delivery_at=_first(session, DeliveryRow.created_at, waiting),
        webhooks_disabled=_count(session, WebhookRow, WebhookRow.disabled_at.is_not(None)),
        audit_entries=audit.log_size(session),
        oldest_queued_at=_first(session, JobRow.created_at, queued),
    )


def _by(session: Session, column: Any, *where: sa.ColumnElement[bool]) -> dict[str, int]:
    query = sa.select(column, sa.func.count()).where(*where).group_by(column)
    return dict(session.execute(query).all())


def _attempts(session: Session) -> dict[tuple[str, str], int]:
    query = sa.select(AttemptRow.method, AttemptRow.verdict, sa.func.count())
    found = session.execute(query.group_by(AttemptRow.method, AttemptRow.verdict))
    return {(method, verdict or "none"): count for method, verdict, count in found}


def _first(session: Session, column: Any, *where: sa.ColumnElement[bool]) -> datetime | None:
    found: datetime | None = session.scalar(sa.select(sa.func.min(column)).where(*where))
    return found


def _sum(session: Session, value: Any, *where: sa.ColumnElement[bool]) -> float:
    return float(session.scalar(sa.select(sa.func.sum(value)).where(*where)) or 0)


def _spread(session: Session, begin: Any, end: Any) -> Spread:
    """Of the jobs that have both times."""
    took = epoch_seconds(end) - epoch_seconds(begin)
    within: Sequence[Any] = [sa.func.count(sa.case((took <= most, 1))) for most in BUCKETS_SECONDS]
    query = sa.select(sa.func.count(), sa.func.sum(took), *within).where(begin.is_not(None), end.is_not(None))
    count, sum_seconds, *at_most = session.execute(query).one()
    return Spread(tuple(at_most), count, float(sum_seconds or 0.0))


def _count(session: Session, row: type[Any], *where: sa.ColumnElement[bool]) -> int:
    return session.scalar(sa.select(sa.func.count()).select_from(row).where(*where)) or 0
