"""The same key and body get the stored answer; another body is refused; another caller's key is another key."""

import hashlib
import hmac
from datetime import timedelta

import pytest
import sqlalchemy as sa

from records import idempotency, tenants
from records.base import utc_now
from records.database import Database
from records.idempotency import Answer, fingerprint
from records.rows import IdempotencyRow
from records.tenants import Caller
from tests.make import make_tenant

ANSWER = Answer(202, "/v1/erasure-requests/req_1", {"id": "req_1"})
PEPPER = b"p" * 32
BODY = fingerprint(PEPPER, "POST", "/v1/erasure-requests", b"{}")


@pytest.fixture
def callers(database: Database) -> list[Caller]:
    with database.transaction() as session:
        tenant = make_tenant(session)
        keys = [tenants.create_key(session, tenant.id, name, ["admin"])[0].id for name in ("a", "b")]
        return [Caller(tenant.id, key, frozenset()) for key in keys]


def test_replay(database: Database, callers: list[Caller]) -> None:
    with database.transaction() as session:
        assert idempotency.stored(session, callers[0], "k", BODY) is None
        idempotency.keep(session, callers[0], "k", BODY, ANSWER)
    with database.reading() as session:
        assert idempotency.stored(session, callers[0], "k", BODY) == ANSWER
        assert idempotency.stored(session, callers[1], "k", BODY) is None
        other = fingerprint(PEPPER, "POST", "/v1/erasure-requests", b"{ }")
        with pytest.raises(idempotency.KeyReused):
            idempotency.stored(session, callers[0], "k", other)


def test_the_key_can_be_kept_only_once(database: Database, callers: list[Caller]) -> None:
    with database.transaction() as session:
        idempotency.keep(session, callers[0], "k", BODY, ANSWER)
    with pytest.raises(sa.exc.IntegrityError), database.transaction() as session:
        idempotency.keep(session, callers[0], "k", BODY, ANSWER)


def test_fingerprints_tell_method_path_and_body_apart() -> None:
    made = [fingerprint(PEPPER, m, p, b) for m in ("POST", "PUT") for p in ("/a", "/b") for b in (b"", b"x")]
    assert len({one.keyed for one in made}) == 8


def test_what_is_stored_of_a_body_cannot_be_computed_without_the_pepper(
    database: Database, callers: list[Caller]
) -> None:
    with database.transaction() as session:
        idempotency.keep(session, callers[0], "k", BODY, ANSWER)
    with database.reading() as session:
        row = session.get_one(IdempotencyRow, (callers[0].key_id, "k"))
    guess = hashlib.sha256(b"POST\n/v1/erasure-requests\n{}").digest()
    assert BODY.plain == guess
    assert row.fingerprint not in (guess, fingerprint(b"q" * 32, "POST", "/v1/erasure-requests", b"{}").keyed)
    assert row.fingerprint == hmac.digest(PEPPER, b"lethe idempotency\0" + guess, "sha256")


def test_a_row_from_before_fingerprints_were_keyed_replays_and_refuses(
    database: Database, callers: list[Caller]
) -> None:
    with database.transaction() as session:
        idempotency.keep(session, callers[0], "k", BODY, ANSWER)
        session.flush()
        session.get_one(IdempotencyRow, (callers[0].key_id, "k")).fingerprint = BODY.plain
    with database.reading() as session:
        assert idempotency.stored(session, callers[0], "k", BODY) == ANSWER
        with pytest.raises(idempotency.KeyReused):
            idempotency.stored(session, callers[0], "k", fingerprint(PEPPER, "POST", "/v1/erasure-requests", b"{ }"))


def test_old_answers_are_forgotten_and_young_ones_not(database: Database, callers: list[Caller]) -> None:
    with database.transaction() as session:
        for key in ("old", "young"):
            idempotency.keep(session, callers[0], key, BODY, ANSWER)
        session.flush()
        session.get_one(IdempotencyRow, (callers[0].key_id, "old")).created_at = utc_now() - timedelta(days=91)
    assert idempotency.delete_old(database, timedelta(days=90)) == 1
    with database.reading() as session:
        assert idempotency.stored(session, callers[0], "old", BODY) is None
        assert idempotency.stored(session, callers[0], "young", BODY) == ANSWER
