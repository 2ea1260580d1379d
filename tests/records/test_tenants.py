"""Keys are checked by digest, scopes are enforced, and one filter keeps tenants apart."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from records import tenants
from records.base import utc_now
from records.database import Database
from records.errors import Invalid, NotFound
from records.rows import ApiKeyRow, AuditEntryRow, DeliveryRow, ModelRow
from tests.make import make_model, make_tenant


def test_a_key_authenticates_and_its_secret_is_stored_nowhere(database: Database) -> None:
    with database.transaction() as session:
        tenant = make_tenant(session)
        key, plain = tenants.create_key(session, tenant.id, "ci", ["requests:read"])
    with database.reading() as session:
        caller = tenants.authenticate(session, plain)
        row = session.execute(sa.select(ApiKeyRow.__table__)).one()
    assert (caller.tenant_id, caller.key_id) == (tenant.id, key.id)
    assert all(plain not in str(value) and plain.split("_", 2)[2] not in str(value) for value in row)


@pytest.mark.parametrize("plain", ["", "lethe_00000000_x", "Bearer x"])
def test_an_unknown_key_is_refused(database: Database, plain: str) -> None:
    with database.reading() as session, pytest.raises(tenants.Unauthorized):
        tenants.authenticate(session, plain)


def test_expired_and_revoked_keys_are_refused(database: Database) -> None:
    with database.transaction() as session:
        tenant = make_tenant(session)
        _, expired = tenants.create_key(session, tenant.id, "a", ["admin"], utc_now() - timedelta(seconds=1))
        key, revoked = tenants.create_key(session, tenant.id, "b", ["admin"])
        key.revoked_at = utc_now()
    with database.reading() as session:
        for plain in (expired, revoked):
            with pytest.raises(tenants.Unauthorized):
                tenants.authenticate(session, plain)


def test_scopes(database: Database) -> None:
    reader = tenants.Caller("ten_1", "key_1", frozenset({"requests:read"}))
    reader.require("requests:read")
    with pytest.raises(tenants.Forbidden, match="requests:write"):
        reader.require("requests:write")
    tenants.Caller("ten_1", "key_1", frozenset({"admin"})).require("review")
    with database.transaction() as session, pytest.raises(Invalid, match="gossip"):
        tenants.create_key(session, "ten_1", "x", ["gossip"])


def test_a_foreign_row_is_not_found_in_the_same_words_as_none(database: Database) -> None:
    with database.transaction() as session:
        mine, theirs = make_model(session), make_model(session)
    with database.reading() as session:
        assert tenants.find(session, ModelRow, mine.tenant_id, ModelRow.id == mine.id).id == mine.id
        with pytest.raises(NotFound) as foreign:
            tenants.find(session, ModelRow, mine.tenant_id, ModelRow.id == theirs.id)
        with pytest.raises(NotFound) as missing:
            tenants.find(session, ModelRow, mine.tenant_id, ModelRow.id == "mod_none")
    assert str(foreign.value) == str(missing.value)


def test_what_is_not_there_is_called_by_its_name(database: Database) -> None:
    names = {ModelRow: "model", ApiKeyRow: "api key", AuditEntryRow: "audit entry", DeliveryRow: "delivery"}
    for row, name in names.items():
        with database.reading() as session, pytest.raises(NotFound, match=rf"^No such {name}\. "):
            tenants.find(session, row, "ten_0")
