"""A database that was put back goes on: what was destroyed since is destroyed again, and what ran is queued again.

The processes of the lost time must have ended. Should one live, its token is older than any that will be given out.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from records import audit, erasures
from records.database import Database
from records.erasures import Replayed
from records.moves import move
from records.rows import JobRow, ModelRow
from records.states import JobState
from records.store import Store

ACTOR = "restore"
LOST_TOKENS = 1000  # more than a model can have given out between a copy and its loss


@dataclass(frozen=True)
class Recovered:
    """`entries` of the audit log there were; `queued` jobs had been running."""

    entries: int
    queued: int
    replayed: Replayed


def recover(database: Database, store: Store) -> Recovered:
    """Twice is no mistake."""
    replayed = erasures.keep_up(database, store) or Replayed()
    with database.transaction() as session:
        entries = audit.log_size(session)
        free = {"lease_owner": None, "lease_expires_at": 0.0, "fence": ModelRow.fence + LOST_TOKENS}
        session.execute(sa.update(ModelRow).values(free).execution_options(synchronize_session=False))
        running = list(session.scalars(sa.select(JobRow).where(JobRow.state == JobState.RUNNING).with_for_update()))
        for job in running:
            job.executions -= 1
            move(session, job, JobState.QUEUED, ACTOR, why="restored")
        audit.record(session, "database.restored", None, ACTOR, audit.About(), {"entries": entries})
    return Recovered(entries, len(running), replayed)
