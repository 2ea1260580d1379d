"""Events are counted in rows that a migration made, in the caller's transaction or in one of their own."""

from typing import Any

import pytest

from records import counters, jobs, outbox
from records.counters import Event
from records.database import Database
from records.outbox import HINT
from tests.make import make_job, make_model


def counted(database: Database) -> dict[str, int]:
    with database.reading() as session:
        return {name: count for name, count in counters.read(session).items() if count}


def test_every_event_has_its_row(database: Database) -> None:
    with database.reading() as session:
        assert counters.read(session) == dict.fromkeys(map(str, Event), 0)
    for event in Event:
        counters.count(database, event, by=2)
        counters.count(database, event)
    assert counted(database) == dict.fromkeys(map(str, Event), 3)


def test_what_is_rolled_back_is_not_counted(database: Database) -> None:
    with database.reading() as session:
        counters.add(session, Event.HINT_SENT)
    assert counted(database) == {}


def test_a_database_that_is_away_costs_the_count_alone(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE counters RENAME TO elsewhere")
    counters.count(database, Event.LEASE_LOST)


def test_a_model_that_somebody_else_took_is_a_conflict(database: Database) -> None:
    with database.transaction() as session:
        model = make_model(session)
        make_job(session, model)
    for owner in ("one", "two"):
        with database.transaction() as session:
            jobs.claim(session, model.id, owner, 60.0, 3)
    assert counted(database) == {"claim_conflict": 1}


def test_hints_that_go_out_and_hints_that_do_not(database: Database) -> None:
    def away(_topic: str, _body: dict[str, Any]) -> None:
        raise ConnectionError

    with database.transaction() as session:
        for _ in range(3):
            outbox.post(session, HINT, {"model_id": "mod_1"})
    with pytest.raises(ConnectionError):
        outbox.relay(database, away)
    outbox.relay(database, lambda _topic, _body: None)
    assert counted(database) == {"hint_failed": 1, "hint_sent": 3}
