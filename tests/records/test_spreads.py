"""How long things took: summed up once, added up when asked, and the same either way."""

from datetime import datetime, timedelta

from records import spreads
from records.base import utc_now
from records.database import Database
from records.rows import JobRow, StageRow
from records.spreads import JOB_RUN, JOB_WAIT, STAGE, Spread
from tests.make import make_job, make_model

HOUR = timedelta(hours=1)


def add_job(database: Database, waited: float, ran: float | None, finished_at: datetime) -> str:
    with database.transaction() as session:
        job = make_job(session, make_model(session))
        job.finished_at = finished_at
        job.started_at = finished_at - timedelta(seconds=ran) if ran is not None else None
        job.created_at = (job.started_at or finished_at) - timedelta(seconds=waited)
        return job.id


def add_stage(database: Database, job_id: str, stage: str, seconds: float, at: datetime, fence: int = 1) -> None:
    row = StageRow(job_id=job_id, fence=fence, attempt=1, stage=stage, seconds=seconds, finished_at=at)
    with database.transaction() as session:
        session.add(row)


def read(database: Database) -> dict[str, dict[str, Spread]]:
    with database.reading() as session:
        return {name: spreads.read(session, name) for name in (JOB_WAIT, JOB_RUN, STAGE)}


def rounded(found: dict[str, dict[str, Spread]]) -> dict[str, dict[str, tuple[object, ...]]]:
    """SQLite's times are exact to a tenth of a millisecond."""
    return {
        name: {label: (one.at_most, one.count, round(one.sum_seconds, 2)) for label, one in of_name.items()}
        for name, of_name in found.items()
    }


def test_rows_are_counted_by_the_buckets_they_fall_into(database: Database) -> None:
    job_id = add_job(database, waited=5.0, ran=70.0, finished_at=utc_now())
    add_job(database, waited=0.5, ran=None, finished_at=utc_now())  # cancelled before it was started
    add_stage(database, job_id, "load", 0.5, utc_now())
    add_stage(database, job_id, "unlearn", 60.0, utc_now())
    assert rounded(read(database)) == {
        JOB_WAIT: {"": ((0, 1, 1, 1, 1, 1, 1, 1, 1), 1, 5.0)},
        JOB_RUN: {"": ((0, 0, 0, 1, 1, 1, 1, 1, 1), 1, 70.0)},
        STAGE: {
            "load": ((1, 1, 1, 1, 1, 1, 1, 1, 1), 1, 0.5),
            "unlearn": ((0, 0, 1, 1, 1, 1, 1, 1, 1), 1, 60.0),
        },
    }


def test_nothing_timed_yet_is_zero(database: Database) -> None:
    assert read(database) == {JOB_WAIT: {"": Spread()}, JOB_RUN: {"": Spread()}, STAGE: {}}


def test_settling_changes_nothing_that_is_read(database: Database) -> None:
    now = utc_now()
    old = add_job(database, 5.0, 70.0, now - 5 * HOUR)
    add_stage(database, old, "unlearn", 60.0, now - 5 * HOUR)
    young = add_job(database, 7.0, 700.0, now)
    add_stage(database, young, "unlearn", 650.0, now)
    before = rounded(read(database))
    spreads.settle(database)
    assert rounded(read(database)) == before
    add_stage(database, young, "attack", 1.0, now, fence=2)
    spreads.settle(database)
    spreads.settle(database)
    after = rounded(read(database))
    assert after[STAGE].pop("attack") == ((1,) * 9, 1, 1.0)
    assert (after, after[JOB_RUN][""][1]) == (before, 2)


def test_what_has_settled_is_looked_at_no_more(database: Database) -> None:
    job_id = add_job(database, 5.0, 70.0, utc_now() - 5 * HOUR)
    spreads.settle(database)
    with database.transaction() as session:
        session.get_one(JobRow, job_id).started_at = utc_now() - 6 * HOUR
    assert rounded(read(database))[JOB_RUN][""][1:] == (1, 70.0)
