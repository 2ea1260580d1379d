"""A new master key: every wrapped key follows, whoever is killed is followed, and the old key ends when it may."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from records import audit, retention, rotation, sealing, webhooks
from records.audit import LogSigner
from records.base import Row, new_id, utc_now
from records.database import Database
from records.keys import KeyRing, KeysRefused
from records.rows import AuditEntryRow, DatasetRow, EvidenceRow, RequestRow, WebhookRow
from records.sealing import MasterKeyMismatch, Owner, master_key_id
from records.store import FolderStore
from records.vault import FORGET, Vault
from tests.make import make_model, make_request

ORIGIN = "test.local/audit"
ROTATE = """
import os, signal, sys
from pathlib import Path
from records import rotation, sealing
from records.audit import LogSigner
from records.database import Database, make_engine
from records.keys import KeyRing
folder, url, what, at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
keys = KeyRing.from_folder(folder, "test.local/audit")
rotation.BATCH = 3
def dying(function, calls=[]):
    def call(*arguments):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call
if at:
    where = sealing if what == "wrap" else rotation
    setattr(where, what, dying(getattr(where, what)))
rotation.rotate(Database(make_engine(url, 2), LogSigner("test.local/audit", keys.log)), folder, keys, "operator")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ring"


@pytest.fixture
def ring(folder: Path) -> KeyRing:
    return KeyRing.from_folder(folder, ORIGIN)


@pytest.fixture
def vault(tmp_path: Path, ring: KeyRing) -> Vault:
    return Vault(FolderStore(tmp_path / "store"), ring)


def add_requests(database: Database, vault: Vault, count: int) -> list[str]:
    """Requests of one model, each with a sealed forget set; their ids."""
    with database.transaction() as session:
        model = make_model(session)
        rows = [make_request(session, model) for _ in range(count)]
        for row in rows:
            sealed = vault.seal(Owner(row.tenant_id, row.id), FORGET, [b'{"text": "%d"}\n' % rows.index(row)])
            row.payload_file, row.wrapped_key = sealed.digest, sealed.wrapped_key
        return [row.id for row in rows]


def add_others(database: Database, vault: Vault, request_id: str) -> None:
    """A row of each other kind that holds a wrapped key."""
    keys = vault.keys
    with database.transaction() as session:
        request = session.get_one(RequestRow, request_id)
        owner = Owner(request.tenant_id, request.id)
        kept = EvidenceRow(request_id=request.id, tenant_id=request.tenant_id, rows=1, file="canaries")
        kept.wrapped_key = sealing.new_wrapped_key(keys.master, owner)
        dataset_id = new_id("dat")
        wrapped = sealing.new_wrapped_key(keys.master, Owner(request.tenant_id, dataset_id))
        row = DatasetRow(
            id=dataset_id, tenant_id=request.tenant_id, model_id=request.model_id, role="retain", rows=1, size_bytes=1,
            plain_digest="a", file_digest="b", wrapped_key=wrapped,
        )  # fmt: skip
        session.add_all([kept, row])
        hook = webhooks.add(session, request.tenant_id, "https://example.org", ["*"], "test", keys)
        webhooks.rotate(session, request.tenant_id, hook.id, timedelta(hours=1), "test", keys)


def texts(database: Database, vault: Vault, ids: list[str]) -> list[str | None]:
    with database.reading() as session:
        return [vault.forget_set(session.get_one(RequestRow, one))[0].text for one in ids]


def later(folder: Path) -> None:
    """As if the present master had been made two days ago."""
    then = time.time() - 2 * rotation.STRAGGLERS_SECONDS
    os.utime(folder / "master.key", (then, then))


def tags(database: Database) -> list[str]:
    with database.reading() as session:
        found = sa.select(AuditEntryRow.tag).where(AuditEntryRow.tag.startswith("master_key"))
        return list(session.scalars(found.order_by(AuditEntryRow.position)))


def test_every_column_of_wrapped_keys_is_rotated() -> None:
    named = {(one.row.__tablename__, one.column.key) for one in rotation.WRAPPED}
    present = {(t.name, c.name) for t in Row.metadata.sorted_tables for c in t.columns if c.name.startswith("wrapped_")}
    assert named == present


def test_all_keys_follow_and_the_old_one_ends_later(database, keys, folder, ring, vault) -> None:
    ids = add_requests(database, vault, 5)
    add_others(database, vault, ids[0])
    old = ring.master
    with database.reading() as session:
        [hook] = session.scalars(sa.select(WebhookRow))
        secrets, public = webhooks.secrets_of(hook, ring, utc_now()), webhooks.public_key_text(ring)
        seen = session.get_one(RequestRow, ids[0]).updated_at
    assert rotation.rotate(database, folder, ring, "operator") == 5 + 4
    assert ring.master != old
    assert rotation.needed(database, ring) == {}
    assert texts(database, vault, ids) == [str(number) for number in range(5)]
    with database.reading() as session:
        [hook] = session.scalars(sa.select(WebhookRow))
        assert webhooks.secrets_of(hook, ring, utc_now()) == secrets
        assert session.get_one(RequestRow, ids[0]).updated_at == seen
        for kept in (*session.scalars(sa.select(EvidenceRow)), *session.scalars(sa.select(DatasetRow))):
            assert sealing.wrapped_by(kept.wrapped_key) == master_key_id(ring.master)
        audit.check_log(session, keys.public().log_verifier_key)
    assert rotation.finish(database, folder, ring) == 0  # too soon
    later(folder)
    assert rotation.finish(database, folder, ring) == 1
    assert [path.name for path in folder.glob("master*")] == ["master.key"]
    fresh = KeyRing.from_folder(folder, ORIGIN)
    assert texts(database, Vault(vault.store, fresh), ids) == [str(number) for number in range(5)]
    assert webhooks.public_key_text(fresh) == public
    assert tags(database) == ["master_key.rotated", "master_key.destroyed"]
    with pytest.raises(MasterKeyMismatch):
        KeyRing.from_folder(folder, ORIGIN).open(sealing.new_wrapped_key(old, Owner("t", "o")), Owner("t", "o"))


def test_what_was_shredded_stays_shredded(database, folder, ring, vault) -> None:
    [one] = add_requests(database, vault, 1)
    with database.transaction() as session:
        retention.shred(session, session.get_one(RequestRow, one), "test")
    assert rotation.rotate(database, folder, ring, "operator") == 0
    with database.reading() as session:
        assert session.get_one(RequestRow, one).wrapped_key is None


def test_a_process_that_began_before_reads_and_writes_on(database, folder, ring, vault) -> None:
    ids = add_requests(database, vault, 2)
    started_before = Vault(vault.store, KeyRing.from_folder(folder, ORIGIN))
    with database.reading() as session:
        held = session.get_one(RequestRow, ids[0])  # a job's order, read before the rotation
    rotation.rotate(database, folder, ring, "operator")
    assert started_before.forget_set(held)[0].text == "0"
    assert texts(database, started_before, ids) == ["0", "1"]
    more = add_requests(database, started_before, 1)
    assert rotation.needed(database, ring) == {}
    assert texts(database, vault, more) == ["0"]


def test_who_comes_late_is_wrapped_before_the_old_key_ends(database, folder, ring, vault) -> None:
    [one] = add_requests(database, vault, 1)
    owner, old = Owner("late", "late"), ring.master
    with database.reading() as session:
        owner = Owner(session.get_one(RequestRow, one).tenant_id, one)
    late = sealing.new_wrapped_key(old, owner)
    rotation.rotate(database, folder, ring, "operator")
    with database.transaction() as session:
        session.get_one(RequestRow, one).wrapped_key = late
    later(folder)
    assert rotation.finish(database, folder, ring) == 1
    with database.reading() as session:
        ring.open(session.get_one(RequestRow, one).wrapped_key, owner)


def test_a_row_that_somebody_holds_keeps_the_old_key(database, folder, ring, vault) -> None:
    if database.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer: nobody holds a row beside another")
    ids = add_requests(database, vault, 2)
    with database.transaction() as session:
        session.get_one(RequestRow, ids[0], with_for_update=True)
        other = Database(database.engine, LogSigner(ORIGIN, ring.log))
        assert rotation.rotate(other, folder, ring, "operator") == 1
        later(folder)
        assert rotation.finish(other, folder, ring) == 0
        assert sum(rotation.needed(other, ring).values()) == 1
    assert rotation.finish(database, folder, ring) == 1
    assert texts(database, vault, ids) == ["0", "1"]


def test_killed_at_any_point_it_is_finished_by_the_next(database, folder, ring, vault) -> None:
    ids = add_requests(database, vault, 60)
    url = database.engine.url.render_as_string(hide_password=False)
    expected = [str(number) for number in range(60)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", ROTATE, str(folder), url]
    left = []
    for what, at in (("create", 1), ("create", 2), ("create", 2), ("load_secret", 2), ("wrap", 1), ("wrap", 20)):
        ended = subprocess.run([*command, what, str(at)], env=environment)
        assert ended.returncode == -signal.SIGKILL
        assert texts(database, Vault(vault.store, KeyRing.from_folder(folder, ORIGIN)), ids) == expected
        left.append(sum(rotation.needed(database, ring).values()))
    assert left == [0, 0, 0, 0, 60, 60 - 18]
    subprocess.run([*command, "wrap", "0"], check=True, env=environment)
    assert rotation.needed(database, ring) == {}
    later(folder)
    left_over = next(folder.glob("tmp*"), None) or folder / "tmp-of-a-killed-one"
    left_over.touch()
    os.utime(left_over, (1, 1))
    rotation.finish(database, folder, ring)
    names = ["log.key", "master.key", "model.key", "pepper.key", "rotate.lock", "webhook.key"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert texts(database, Vault(vault.store, KeyRing.from_folder(folder, ORIGIN)), ids) == expected


def test_a_webhook_from_before_keeps_its_derived_secret(database, folder, ring, vault) -> None:
    [one] = add_requests(database, vault, 1)
    with database.transaction() as session:
        tenant = session.get_one(RequestRow, one).tenant_id
        row = webhooks.add(session, tenant, "https://example.org", ["*"], "test", ring)
        row.wrapped_secret = None
        secret = webhooks.secret_text(row, ring)
    rotation.rotate(database, folder, ring, "operator")
    with database.reading() as session:
        [row] = session.scalars(sa.select(WebhookRow))
        assert webhooks.secret_text(row, ring) == secret


def test_what_no_master_opens_keeps_nothing_from_its_end(database, folder, ring, vault) -> None:
    ids = add_requests(database, vault, 2)
    with database.transaction() as session:
        row = session.get_one(RequestRow, ids[0])
        row.wrapped_key = sealing.new_wrapped_key(b"a master that was lost long ago!", Owner(row.tenant_id, row.id))
    assert rotation.rotate(database, folder, ring, "operator") == 1
    later(folder)
    assert rotation.finish(database, folder, ring) == 1


def test_a_folder_that_lost_its_webhook_key_is_refused(folder, ring) -> None:
    rotation.switch(folder, ring)
    (folder / "webhook.key").unlink()
    with pytest.raises(KeysRefused, match=r"webhook\.key"):
        KeyRing.from_folder(folder, ORIGIN)


def test_canaries_are_settled_once_whatever_wraps_their_key(database, folder, ring, vault) -> None:
    [one] = add_requests(database, vault, 1)
    add_others(database, vault, one)
    with database.transaction() as session:
        retention.settle(session, session.get_one(RequestRow, one), "test")
    rotation.rotate(database, folder, ring, "operator")
    with database.transaction() as session:
        row = session.get_one(RequestRow, one)
        spent = session.get_one(EvidenceRow, one).spent_file
        retention.settle(session, row, "test")
        assert (row.payload_file, session.get_one(EvidenceRow, one).spent_file) == ("canaries", spent)
