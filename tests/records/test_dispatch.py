"""Which model is next: deadlines, priority, what a worker serves, staying with a model; and being alone."""

import threading
import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from records import dispatch, jobs
from records.alone import SWEEP, alone
from records.base import utc_now
from records.capabilities import CAPABILITIES, gpus, needed, served
from records.database import Database, DatabaseTrouble, is_away
from records.errors import Invalid
from records.jobs import Standing
from records.rows import JobRow, ModelRow
from records.settings import QueueSettings
from records.states import Outcome
from tests.make import make_model, make_request

GIB = 2**30


def add(database: Database, days: int, standing: Standing = Standing(), model_id: str | None = None) -> str:
    """A job due in so many days; the id of its model, a new one unless given."""
    with database.transaction() as session:
        model = session.get_one(ModelRow, model_id) if model_id else make_model(session)
        request = make_request(session, model)
        request.due_at = utc_now() + timedelta(days=days)
        jobs.add_job(session, model, [request], "test", standing)
        return model.id


def take(database: Database, prefer: str | None = None, serves: tuple[str, ...] = CAPABILITIES) -> str | None:
    with database.transaction() as session:
        held = dispatch.claim_next(session, "me", 60.0, 3, serves, prefer)
    return held.model_id if held else None


def test_the_nearest_deadline_goes_first_and_a_step_of_priority_counts_as_a_week(database: Database) -> None:
    late, soon = add(database, days=20), add(database, days=10)
    raised = add(database, days=20, standing=Standing(priority=2))
    barely = add(database, days=20, standing=Standing(priority=1))
    assert [take(database) for _ in range(5)] == [raised, soon, barely, late, None]


def test_a_deadline_long_past_does_not_go_before_one_that_passed_since(database: Database) -> None:
    """A tenant names when the person asked: with a time years ago it would stay in front of all others for good."""
    waits = add(database, days=20)
    with database.transaction() as session:
        session.execute(sa.update(JobRow).values(run_by=utc_now() - timedelta(minutes=1)))  # twenty days later
    pushes = add(database, days=-9000, standing=Standing(priority=4))
    assert [take(database) for _ in range(3)] == [waits, pushes, None]


def test_a_model_is_as_urgent_as_the_most_urgent_of_its_jobs_and_keeps_their_order(database: Database) -> None:
    other, model_id = add(database, days=10), add(database, days=30)
    add(database, days=1, model_id=model_id)
    with database.transaction() as session:
        held = dispatch.claim_next(session, "me", 60.0, 3, CAPABILITIES)
    assert held is not None
    with database.reading() as session:
        assert (held.model_id, session.get_one(JobRow, held.job_id).position) == (model_id, 1)
    with database.transaction() as session:
        jobs.finish(session, held, Outcome.NOT_MEMORISED)
    assert [take(database), take(database)] == [model_id, other]


def test_a_preferred_model_goes_first_while_it_waits(database: Database) -> None:
    soon, near = add(database, days=1), add(database, days=20)
    assert [take(database, prefer=near), take(database, prefer=near)] == [near, soon]


def test_a_worker_takes_what_it_serves_alone(database: Database) -> None:
    large, small = add(database, days=1, standing=Standing(needs="1gpu")), add(database, days=20)
    with database.reading() as session:
        assert dispatch.claimable(session) == [(large, "1gpu"), (small, "cpu")]
    assert [take(database, serves=("cpu",)), take(database, serves=("cpu",))] == [small, None]
    assert take(database, serves=("1gpu", "2gpu")) == large


def test_a_model_whose_jobs_end_unstarted_is_passed_over(database: Database) -> None:
    poisonous, cancelled, sound = add(database, days=1), add(database, days=2), add(database, days=3)
    with database.transaction() as session:
        found = {row.model_id: row for row in session.scalars(sa.select(JobRow))}
        found[poisonous].executions = 3
        found[cancelled].state, found[cancelled].cancel_requested_at = "running", utc_now()
    assert take(database) == sound
    with database.reading() as session:
        ended = {row.model_id: (row.state, row.error_code) for row in session.scalars(sa.select(JobRow))}
    assert ended[poisonous] == ("failed", "poison")
    assert ended[cancelled] == ("cancelled", "cancelled")


def test_a_job_that_waits_for_something_outside_is_not_claimed_at_once_nor_renewed(database: Database) -> None:
    add(database, days=1)
    with database.transaction() as session:
        held = dispatch.claim_next(session, "me", 60.0, 3, CAPABILITIES)
        assert held is not None
    with database.transaction() as session:
        jobs.hand_back(session, held, "store_away", counts=False, wait_seconds=60.0)
    assert take(database) is None
    with pytest.raises(jobs.LeaseLost), database.transaction() as session:
        jobs.renew(session, held, 60.0)
    with database.transaction() as session:
        session.execute(sa.update(ModelRow).values(lease_expires_at=1.0))
    assert take(database) == held.model_id


def test_workers_that_claim_at_once_get_different_models(database: Database) -> None:
    models, taken = {add(database, days=5) for _ in range(4)}, []
    start = threading.Barrier(4)

    def one() -> None:
        start.wait()
        taken.append(take(database))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(taken) == models


def test_one_is_alone_until_its_block_ends(database: Database) -> None:
    others = database.engine.dialect.name == "postgresql"
    with alone(database, SWEEP) as first, alone(database, SWEEP) as second:
        assert (first, second) == (True, not others)
    with alone(database, SWEEP) as third:
        assert third


@pytest.mark.postgres
def test_who_is_frozen_inside_does_not_keep_the_others_out(database: Database) -> None:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one process")
    with alone(database, SWEEP) as first:
        with database.engine.connect() as killer:  # what the server does to an idle transaction after a while
            others = sa.text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            assert killer.scalars(others).all() == [True]
        with alone(database, SWEEP) as second:
            assert (first, second) == (True, True)


@pytest.mark.postgres
def test_who_is_frozen_while_he_writes_keeps_nothing_from_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one process")
    model_id = add(database, days=1)
    monkeypatch.setattr("records.database.LONGEST_PAUSE", "2s")
    with pytest.raises(DatabaseTrouble) as caught:
        _freeze_until_taken(database, model_id)
    assert is_away(caught.value)


def _freeze_until_taken(database: Database, model_id: str) -> None:
    with database.reading() as reader, database.transaction() as frozen:
        model = reader.get_one(ModelRow, model_id)
        frozen.get_one(ModelRow, model_id, with_for_update=True)
        assert take(database) is None
        deadline = time.monotonic() + 60.0
        while (taken := take(database)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert taken == model_id
        reader.refresh(model)  # who reads may take his time


@pytest.mark.parametrize(
    ("gib", "most_gpus", "word"),
    [
        (1, 1, "cpu"),
        (3, 1, "1gpu"),
        (100, 1, "1gpu"),
        (20, 4, "2gpu"),
        (100, 4, "4gpu"),
        (100, 8, "8gpu"),
        (3, 0, "cpu"),
    ],
)
def test_what_weights_need(gib: int, most_gpus: int, word: str) -> None:
    assert needed(gib * GIB, QueueSettings(most_gpus=most_gpus)) == word
    assert word in ("cpu", f"{gpus(word)}gpu")


def test_what_a_worker_serves() -> None:
    assert served(()) == CAPABILITIES
    assert served(("1gpu",)) == ("1gpu",)
    with pytest.raises(Invalid, match="LETHE_WORKER_SERVES holds 3gpu"):
        served(("3gpu", "cpu"))
