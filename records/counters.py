"""Counts of what leaves no other row behind, kept in the database so that any API process tells them."""

from enum import StrEnum

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from records.database import Database, DatabaseTrouble
from records.rows import CounterRow


class Event(StrEnum):
    """What is counted. Each has its row from a migration on."""

    CLAIM_CONFLICT = "claim_conflict"  # another worker took the model between the look and the claim
    LEASE_LOST = "lease_lost"  # a worker stopped a runner whose model was no longer its own
    STALE_PUBLISH = "stale_publish"  # a version was refused: the lease or the head had gone to somebody else
    HINT_SENT = "hint_sent"
    HINT_FAILED = "hint_failed"  # the broker did not take it
    HINT_REPEATED = "hint_repeated"  # sent by the sweeper: the first was lost, or its taker died or gave the job back


def add(session: Session, event: Event, by: int = 1) -> None:
    """Count in the caller's transaction."""
    row = sa.update(CounterRow).where(CounterRow.name == str(event)).values(value=CounterRow.value + by)
    session.execute(row.execution_options(synchronize_session=False))


def count(database: Database, event: Event, by: int = 1) -> None:
    """Count in a transaction of its own. A database that is away costs the count, and nothing else."""
    try:
        with database.transaction() as session:
            add(session, event, by)
    except DatabaseTrouble as error:
        structlog.get_logger("lethe").warning("not_counted", what=str(event), error=type(error).__name__)


def read(session: Session) -> dict[str, int]:
    return dict(session.execute(sa.select(CounterRow.name, CounterRow.value)).all())
