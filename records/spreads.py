"""How long things took, over all there ever were: what has settled is summed up once and kept, the rest is added when
somebody asks. So a histogram of millions of rows costs as little as one of the last hour, and every process tells the
same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records.base import utc_now
from records.database import Database, epoch_seconds
from records.rows import JobRow, SpreadRow, StageRow

# Other buckets need a migration that empties the table: what is kept was counted by these.
BUCKETS_SECONDS = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0, 7 * 24 * 3600.0)
SETTLED_AFTER = timedelta(hours=1)  # more than workers' clocks differ, and than a transaction takes
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
JOB_WAIT, JOB_RUN, STAGE = "job_wait", "job_run", "stage"


@dataclass(frozen=True)
class Spread:
    """How long something took: how many took at most each of BUCKETS_SECONDS, how many in all, their sum."""

    at_most: tuple[int, ...] = (0,) * len(BUCKETS_SECONDS)
    count: int = 0
    sum_seconds: float = 0.0

    def __add__(self, other: "Spread") -> "Spread":
        at_most = tuple(one + more for one, more in zip(self.at_most, other.at_most, strict=True))
        return Spread(at_most, self.count + other.count, self.sum_seconds + other.sum_seconds)


Spreads = dict[str, Spread]
"""By label; jobs have the empty one."""


@dataclass(frozen=True)
class _Source:
    """Rows that are timed: how long each took, and when it was over, which is never changed afterwards."""

    seconds: Any
    at: Any
    label: Any = None


_SOURCES = {
    JOB_WAIT: _Source(epoch_seconds(JobRow.started_at) - epoch_seconds(JobRow.created_at), JobRow.started_at),
    JOB_RUN: _Source(epoch_seconds(JobRow.finished_at) - epoch_seconds(JobRow.started_at), JobRow.finished_at),
    STAGE: _Source(StageRow.seconds, StageRow.finished_at, StageRow.stage),
}


def read(session: Session, name: str) -> Spreads:
    """Everything that was ever timed under `name`."""
    kept, until = _kept(session, name)
    return _added(kept, _timed(session, _SOURCES[name], until, None))


def settle(database: Database) -> None:
    """Sum up what has settled since the last time. Two at once do no harm: one waits, and then finds nothing left."""
    for name, source in _SOURCES.items():
        with database.transaction() as session:
            watermark = session.get_one(SpreadRow, (name, ""), with_for_update=True)
            now = utc_now() - SETTLED_AFTER
            kept, until = _kept(session, name)
            for label, spread in _added(kept, _timed(session, source, until, now)).items():
                at_most = list(spread.at_most)
                row = SpreadRow(name=name, label=label, at_most=at_most, count=spread.count, seconds=spread.sum_seconds)
                session.merge(row)
            watermark.until = now


def _kept(session: Session, name: str) -> tuple[Spreads, datetime]:
    rows = list(session.scalars(sa.select(SpreadRow).where(SpreadRow.name == name)))
    until = next((row.until for row in rows if row.until), LONG_AGO)
    return {row.label: Spread(tuple(row.at_most), row.count, row.seconds) for row in rows if row.at_most}, until


def _timed(session: Session, source: _Source, since: datetime, until: datetime | None) -> Spreads:
    within: Sequence[Any] = [sa.func.count(sa.case((source.seconds <= most, 1))) for most in BUCKETS_SECONDS]
    label = sa.literal_column("''") if source.label is None else source.label
    query = sa.select(label, sa.func.count(source.seconds), sa.func.sum(source.seconds), *within)
    query = query.where(source.at >= since) if until is None else query.where(source.at >= since, source.at < until)
    found = session.execute(query if source.label is None else query.group_by(source.label))
    return {label: Spread(tuple(at_most), count, float(total or 0.0)) for label, count, total, *at_most in found}


def _added(one: Spreads, other: Spreads) -> Spreads:
    return {label: one.get(label, Spread()) + other.get(label, Spread()) for label in one.keys() | other.keys()}
