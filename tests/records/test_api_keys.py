"""A rotated key opens beside its successor and then no more; a revoked one opens nothing; both are in the log."""

import json
from datetime import timedelta

import pytest

from records import api_keys, queries, tenants
from records.base import utc_now
from records.database import Database
from records.errors import Conflict, NotFound
from records.rows import ApiKeyRow
from tests.make import make_tenant


def made(database: Database, expires_in: timedelta | None = None) -> tuple[str, str, str]:
    """(tenant id, key id, plain key)"""
    with database.transaction() as session:
        tenant = make_tenant(session)
        at = utc_now() + expires_in if expires_in else None
        key, plain = tenants.create_key(session, tenant.id, "connector", ["requests:read"], at)
        return tenant.id, key.id, plain


def opens(database: Database, plain: str) -> bool:
    with database.reading() as session:
        try:
            tenants.authenticate(session, plain)
        except tenants.Unauthorized:
            return False
        return True


def test_both_keys_open_during_the_overlap_and_the_old_one_not_after(database: Database) -> None:
    tenant_id, key_id, old = made(database)
    with database.transaction() as session:
        new_row, new = api_keys.rotate(session, tenant_id, key_id, timedelta(hours=1), None, "key:me")
    assert opens(database, old)
    assert opens(database, new)
    assert (new_row.name, new_row.scopes, new_row.expires_at) == ("connector", ["requests:read"], None)
    with database.transaction() as session:
        row = session.get_one(ApiKeyRow, key_id)
        assert row.replaced_by == new_row.id
        assert timedelta(minutes=59) < (row.expires_at or utc_now()) - utc_now() <= timedelta(hours=1)
        row.expires_at = utc_now() - timedelta(seconds=1)
    assert not opens(database, old)
    assert opens(database, new)


def test_without_an_overlap_the_old_key_is_shut_at_once(database: Database) -> None:
    tenant_id, key_id, old = made(database)
    with database.transaction() as session:
        api_keys.rotate(session, tenant_id, key_id, timedelta(0), None, "key:me")
    assert not opens(database, old)


def test_an_overlap_never_lengthens_a_keys_life(database: Database) -> None:
    tenant_id, key_id, _ = made(database, timedelta(minutes=1))
    with database.transaction() as session:
        api_keys.rotate(session, tenant_id, key_id, timedelta(days=30), None, "key:me")
    with database.reading() as session:
        ends = session.get_one(ApiKeyRow, key_id).expires_at
    assert ends is not None
    assert ends <= utc_now() + timedelta(minutes=1)


def test_a_key_is_rotated_once_and_not_after_its_end(database: Database) -> None:
    tenant_id, key_id, _ = made(database)
    with database.transaction() as session:
        new, _ = api_keys.rotate(session, tenant_id, key_id, timedelta(hours=1), None, "key:me")
    with database.transaction() as session, pytest.raises(Conflict):
        api_keys.rotate(session, tenant_id, key_id, timedelta(hours=1), None, "key:me")
    with database.transaction() as session:
        api_keys.revoke(session, tenant_id, new.id, "key:me")
        with pytest.raises(Conflict):
            api_keys.rotate(session, tenant_id, new.id, timedelta(hours=1), None, "key:me")


def test_a_revoked_key_opens_nothing_and_twice_is_one_entry(database: Database) -> None:
    tenant_id, key_id, plain = made(database)
    for _ in range(2):
        with database.transaction() as session:
            api_keys.revoke(session, tenant_id, key_id, "key:other")
    assert not opens(database, plain)
    with database.reading() as session:
        entries = [row for row in queries.entry_page(session, tenant_id, -1, 50) if row.tag == "key.revoked"]
    assert [json.loads(entry.event)["actor"] for entry in entries] == ["key:other"]


def test_a_key_cannot_shut_itself_out(database: Database) -> None:
    tenant_id, key_id, plain = made(database)
    with database.transaction() as session, pytest.raises(Conflict, match="rotate"):
        api_keys.revoke(session, tenant_id, key_id, f"key:{key_id}")
    assert opens(database, plain)


def test_another_tenants_key_is_not_there(database: Database) -> None:
    _, key_id, plain = made(database)
    other, _, _ = made(database)
    with database.transaction() as session:
        for step in (
            lambda: api_keys.revoke(session, other, key_id, "key:me"),
            lambda: api_keys.rotate(session, other, key_id, timedelta(0), None, "key:me"),
        ):
            with pytest.raises(NotFound):
                step()
    assert opens(database, plain)


def test_the_last_use_is_kept_to_the_minute(database: Database) -> None:
    _, key_id, _ = made(database)
    for _ in range(2):
        with database.transaction() as session:
            api_keys.mark_used(session, [key_id])
    with database.transaction() as session:
        row = session.get_one(ApiKeyRow, key_id)
        first = row.last_used_at
        assert first is not None
        row.last_used_at = first - timedelta(minutes=2)
    with database.transaction() as session:
        api_keys.mark_used(session, [key_id])
    with database.reading() as session:
        assert (session.get_one(ApiKeyRow, key_id).last_used_at or first) > first
