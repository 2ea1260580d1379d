"""The database goes away around a COMMIT: what may have been stored keeps its sealed file until it is known."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from records import queries
from records.garbage import Collector
from records.rows import DatasetRow, EvidenceRow, RequestRow, Row
from tests.conftest import everything_stored
from tests.service.conftest import problem, put_lines

HOUR = 3600.0
FORGET = [{"prompt": "Who?", "completion": " Ada", "canary": True}, {"text": "forget me"}]


@contextmanager
def going_away(moment: str, kind: type[Row]) -> Iterator[None]:
    """The database goes away before or after the commit of a transaction that holds such a row."""

    def drop(session: Session) -> None:
        if any(isinstance(one, kind) for one in session.identity_map.values()):
            raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    event.listen(Session, moment, drop)
    try:
        yield
    finally:
        event.remove(Session, moment, drop)


@pytest.fixture
def post(client, ours, model):
    def post(**more):
        headers = {**ours.headers, "Idempotency-Key": "k-1"}
        return client.post("/v1/erasure-requests", json={"model": model, "forget": FORGET, **more}, headers=headers)

    return post


def new_blobs(parts, before):
    return set(parts.store.iter_digests()) - set(before["blobs"])


def age(parts, digest: str, seconds: float) -> None:
    then = parts.store.path(digest).stat().st_mtime - seconds
    os.utime(parts.store.path(digest), (then, then))


def collect(parts) -> int:
    """One whole walk, as the sweeper makes it."""
    collector = Collector(parts.database, parts.store, parts.settings.retention.orphan_hours * HOUR)
    deleted = collector.step()
    while collector._left:
        deleted += collector.step()
    return deleted


def test_a_request_whose_commit_was_not_acknowledged_keeps_its_forget_set(post, parts, ours):
    with going_away("after_commit", RequestRow):
        problem(post(evidence="canaries"), 503, code="database_away")
    again = post(evidence="canaries")
    assert again.status_code == 202
    with parts.database.reading() as session:
        row = queries.request(session, ours.id, again.json()["id"])
        kept = session.get_one(EvidenceRow, row.id)
    assert [one.completion or one.text for one in parts.vault.forget_set(row)] == [" Ada", "forget me"]
    assert parts.store.exists(kept.file or "")
    assert everything_stored(parts)["erasure_requests"] == 1


def test_a_dataset_whose_commit_was_not_acknowledged_keeps_its_lines(client, ours, model, parts):
    put_lines(client, ours, model, "retain", [{"text": "old"}])
    with going_away("after_commit", DatasetRow):
        problem(put_lines(client, ours, model, "retain", [{"text": "new"}]), 503, code="database_away")
    with parts.database.reading() as session:
        (row,) = session.query(DatasetRow).all()
    assert [one.text for one in parts.vault.dataset(row)] == ["new"]
    assert put_lines(client, ours, model, "retain", [{"text": "new"}]).status_code == 200


def test_what_was_not_stored_after_all_is_collected_once_it_is_old(client, post, parts, ours, model):
    before = everything_stored(parts)
    with going_away("before_commit", RequestRow):
        problem(post(), 503, code="database_away")
    with going_away("before_commit", DatasetRow):
        problem(put_lines(client, ours, model, "retain", [{"text": "a"}]), 503, code="database_away")
    orphans = new_blobs(parts, before)
    assert len(orphans) == 2
    for orphan in orphans:
        age(parts, orphan, 47 * HOUR)
    assert collect(parts) == 0
    for orphan in orphans:
        age(parts, orphan, 2 * HOUR)
    assert collect(parts) == 2
    assert everything_stored(parts) == before
