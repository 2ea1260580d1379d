"""Counts for the metrics page, over all tenants: read from the rows at scrape time, so that any replica may answer."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit, counters, spreads
from records.base import utc_now
from records.database import database_seconds
from records.rows import (
    AttemptRow,
    DeliveryRow,
    JobRow,
    ModelRow,
    OutboxRow,
    RequestRow,
    StageRow,
    VersionRow,
    WebhookRow,
)
from records.spreads import Spread
from records.states import TERMINAL_REQUEST_STATES, JobState, RequestState, VersionState

UNFINISHED = frozenset(RequestState) - TERMINAL_REQUEST_STATES
LATELY = timedelta(days=1)


@dataclass(frozen=True)
class Gauges:
    """How things are now: each is found by an index. Times are None when there is nothing to be timed."""

    jobs_waiting: dict[str, int]
    job_wait: Spread
    job_run: Spread
    stages: dict[str, Spread]
    gpu_peak_bytes: dict[str, int]
    events: dict[str, int]
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


@dataclass(frozen=True)
class Totals:
    """Counts of all there ever were: each is a walk through an index as long as the table."""

    requests: dict[str, int]
    jobs: dict[str, int]
    job_restarts: int
    attempts: dict[tuple[str, str], int]
    versions: dict[str, int]
    version_bytes: int


def read(session: Session) -> Gauges:
    """How things are now, in one read."""
    unfinished = RequestRow.state.in_(UNFINISHED)
    queued = JobRow.state == JobState.QUEUED
    waiting = DeliveryRow.next_at.is_not(None)
    return Gauges(
        jobs_waiting=_by(session, JobRow.needs, queued),
        job_wait=spreads.read(session, spreads.JOB_WAIT)[""],
        job_run=spreads.read(session, spreads.JOB_RUN)[""],
        stages=spreads.read(session, spreads.STAGE),
        gpu_peak_bytes=_gpu_peaks(session),
        events=counters.read(session),
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


def totals(session: Session) -> Totals:
    return Totals(
        requests=_by(session, RequestRow.state),
        jobs=_by(session, JobRow.state),
        job_restarts=int(_sum(session, JobRow.executions - 1, JobRow.executions > 1)),
        attempts=_attempts(session),
        versions=_by(session, VersionRow.state),
        version_bytes=int(_sum(session, VersionRow.size_bytes, VersionRow.state != VersionState.PURGED)),
    )


def _gpu_peaks(session: Session) -> dict[str, int]:
    """The most that a stage took of a GPU lately."""
    query = sa.select(StageRow.stage, sa.func.max(StageRow.gpu_peak_bytes)).group_by(StageRow.stage)
    lately = (StageRow.finished_at > utc_now() - LATELY, StageRow.gpu_peak_bytes.is_not(None))
    return {stage: int(most or 0) for stage, most in session.execute(query.where(*lately))}


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


def _count(session: Session, row: type[Any], *where: sa.ColumnElement[bool]) -> int:
    return session.scalar(sa.select(sa.func.count()).select_from(row).where(*where)) or 0
