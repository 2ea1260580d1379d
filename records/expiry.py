"""What goes by itself once it is old, where the operator says so (RetentionSettings). Each is an entry of the log."""

import json
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import retention
from records.base import utc_now
from records.database import Database
from records.purging import purge
from records.rows import AuditEntryRow, EvidenceRow, ModelRow, RequestRow, VersionRow
from records.settings import RetentionSettings
from records.states import TERMINAL_REQUEST_STATES, RequestState, VersionState
from records.store import Store

ACTOR = "retention"
BATCH = 20
SPENT = (VersionState.SUPERSEDED, VersionState.REJECTED)


def expire(database: Database, store: Store, settings: RetentionSettings) -> int:
    """Destroy a few of the things whose time is over; returns how many. Called again, it goes on."""
    unforgotten = TERMINAL_REQUEST_STATES - {RequestState.COMPLETED}
    done = 0
    if settings.payload_days:
        done += _shred_old(database, store, unforgotten, timedelta(days=settings.payload_days))
    if settings.examples_days:
        done += _shred_old(database, store, {RequestState.COMPLETED}, timedelta(days=settings.examples_days))
    if settings.superseded_days:
        done += _purge_old(database, timedelta(days=settings.superseded_days))
    return done


def _shred_old(database: Database, store: Store, states: Any, keep: timedelta) -> int:
    held = RequestRow.wrapped_key.is_not(None) | sa.exists().where(EvidenceRow.request_id == RequestRow.id)
    old = (RequestRow.state.in_(states), RequestRow.updated_at < utc_now() - keep, held)
    with database.reading() as session:
        found = session.execute(sa.select(RequestRow.id, RequestRow.model_id).where(*old).limit(BATCH)).all()
    for request_id, model_id in found:
        with database.transaction() as session:
            session.get_one(ModelRow, model_id, with_for_update=True)  # the order in which everybody locks
            request = session.scalar(sa.select(RequestRow).where(RequestRow.id == request_id, *old).with_for_update())
            files = retention.shred(session, request, ACTOR) if request is not None else []
        for file in files:
            store.delete(file)
    return len(found)


def _purge_old(database: Database, keep: timedelta) -> int:
    """A model that another one is compared with keeps its weights."""
    before = utc_now() - keep
    compared = sa.select(ModelRow.reference_id).where(ModelRow.reference_id.is_not(None))
    old = (VersionRow.state.in_(SPENT), VersionRow.created_at < before, VersionRow.model_id.not_in(compared))
    with database.reading() as session:
        spent = session.scalars(sa.select(VersionRow).where(*old).order_by(VersionRow.id)).all()
        due = [row for row in spent if (at := _spent_at(session, row)) is not None and at < before][:BATCH]
    for row in due:
        with database.transaction() as session:
            session.get_one(ModelRow, row.model_id, with_for_update=True)
            version = session.get_one(VersionRow, row.id, with_for_update=True, populate_existing=True)
            if version.state in SPENT:
                purge(session, version, ACTOR)
    return len(due)


def _spent_at(session: Session, row: VersionRow) -> datetime | None:
    """When it was superseded or rejected, as the log says."""
    tag = f"version.{row.state}"
    query = sa.select(AuditEntryRow.event).where(AuditEntryRow.model_id == row.model_id, AuditEntryRow.tag == tag)
    for text in session.scalars(query.order_by(AuditEntryRow.position.desc())):
        event = json.loads(text)
        if event.get("version") == row.number:
            return datetime.fromisoformat(event["at"])
    return None
