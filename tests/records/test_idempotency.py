"""The same key and body get the stored answer; another body is refused; another caller's key is another key."""

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
BODY = fingerprint("POST", "/v1/erasure-requests", b"{}")


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
        other = fingerprint("POST", "/v1/erasure-requests", b"{ }")
        with pytest.raises(idempotency.KeyReused):
            idempotency.stored(session, callers[0], "k", other)


def test_the_key_can_be_kept_only_once(database: Database, callers: list[Caller]) -> None:
    with database.transaction() as session:
        idempotency.keep(session, callers[0], "k", BODY, ANSWER)
    with pytest.raises(sa.exc.IntegrityError), database.transaction() as session:
        idempotency.keep(session, callers[0], "k", BODY, ANSWER)


def test_fingerprints_tell_method_path_and_body_apart() -> None:
    prints = {fingerprint(m, p, b) for m in ("POST", "PUT") for p in ("/a", "/b") for b in (b"", b"x")}
    assert len(prints) == 8


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
