"""Whose delivery is next, and how many endpoints there may be."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.orm import Session

from records import webhooks
from records.database import Database
from records.errors import Conflict
from records.keys import KeyRing
from tests.make import make_model, make_request

URL = "https://example.com/hooks"
SOON_SECONDS = 0.3  # far more than a statement takes


def test_who_is_served_least_comes_first(database: Database, keys: KeyRing) -> None:
    def told(session: Session, times: int) -> str:
        model = make_model(session)
        webhooks.add(session, model.tenant_id, URL, [webhooks.EVERY], "test", keys)
        for _ in range(times):
            make_request(session, model)
        return model.tenant_id

    def claimed(under_way: dict[str, int]) -> str | None:
        with database.transaction() as session:
            row = webhooks.claim_due(session, under_way, 2)
            return row.tenant_id if row else None

    with database.transaction() as session:
        ours, theirs = told(session, 4), told(session, 1)
    assert claimed({}) == ours, "the oldest"
    assert claimed({ours: 1}) == theirs, "the one that waits for its first"
    assert claimed({ours: 1, theirs: 1}) == ours
    assert claimed({ours: 2}) is None, "its share is used"
    assert claimed({ours: 0}) == ours


def test_two_calls_at_once_are_not_both_the_last_that_fits(database: Database, keys: KeyRing) -> None:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer")
    with database.transaction() as session:
        tenant_id = make_model(session).tenant_id
    added = threading.Event()

    def add(session: Session) -> None:
        webhooks.add(session, tenant_id, URL, [webhooks.EVERY], "test", keys)

    def add_the_last() -> None:
        with database.transaction() as session:
            add(session)
            added.set()
            time.sleep(SOON_SECONDS)  # the other call has come by now

    with database.transaction() as session:
        for _ in range(webhooks.MOST_WEBHOOKS - 1):
            add(session)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(add_the_last)
        assert added.wait(10.0)
        with pytest.raises(Conflict), database.transaction() as session:
            add(session)
        first.result(10.0)
