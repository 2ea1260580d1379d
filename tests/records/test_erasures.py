"""What was destroyed is destroyed again in a database that comes back from a copy."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from records import api_keys, erasures, jobs, migrate, moves, retention, tenants, versions
from records.audit import LogSigner, check_log
from records.base import new_id, utc_now
from records.database import Database, make_engine
from records.datasets import put_dataset
from records.erasures import Replayed, keep_up
from records.keys import KeyRing
from records.purging import purge
from records.rows import AuditEntryRow, DatasetRow, EvidenceRow, ModelRow, RequestRow, VersionRow
from records.sealing import Owner, PayloadShredded
from records.states import VersionState
from records.store import FolderStore, Store
from records.vault import FORGET, Vault
from tests.make import digest, make_job, make_model, make_request, make_tenant


class World:
    """A SQLite Lethe whose database can be put back to how it was."""

    def __init__(self, folder: Path, keys: KeyRing) -> None:
        self.file, self.keys = folder / "lethe.db", keys
        self.store: Store = FolderStore(folder / "store")
        self.vault = Vault(self.store, keys)
        self.database = self._open()
        migrate.upgrade(self.database.engine)

    def _open(self) -> Database:
        return Database(make_engine(f"sqlite:///{self.file}"), LogSigner(self.keys.origin, self.keys.log))

    def copy(self) -> None:
        self.database.dispose()
        shutil.copy(self.file, self.file.with_suffix(".copy"))

    def put_back(self) -> None:
        self.database.dispose()
        for suffix in (".db-wal", ".db-shm"):
            self.file.with_suffix(suffix).unlink(missing_ok=True)
        shutil.copy(self.file.with_suffix(".copy"), self.file)
        self.database = self._open()

    def keep_up(self) -> Replayed | None:
        return keep_up(self.database, self.store)

    def add_request(self, kept: EvidenceRow | None = None) -> str:
        with self.database.transaction() as session:
            request = make_request(session, make_model(session))
            sealed = self.vault.seal(Owner(request.tenant_id, request.id), FORGET, [b'{"text": "Ada"}\n'])
            request.payload_file, request.wrapped_key = sealed.digest, sealed.wrapped_key
            if kept is not None:
                kept.request_id, kept.tenant_id = request.id, request.tenant_id
                session.add(kept)
            return request.id

    def readable(self, request_id: str) -> bool:
        with self.database.reading() as session:
            try:
                return bool(self.vault.forget_set(session.get_one(RequestRow, request_id)))
            except PayloadShredded:
                return False

    def tags(self) -> list[str]:
        with self.database.reading() as session:
            check_log(session, self.keys.public().log_verifier_key)
            return list(session.scalars(sa.select(AuditEntryRow.tag).order_by(AuditEntryRow.position)))


@pytest.fixture
def world(tmp_path: Path, keys: KeyRing) -> Iterator[World]:
    made = World(tmp_path, keys)
    yield made
    made.database.dispose()


def test_a_shredded_forget_set_stays_shredded_and_others_stay(world: World) -> None:
    gone, stays = world.add_request(), world.add_request()
    assert world.keep_up() is None
    world.copy()
    with world.database.transaction() as session:
        retention.shred(session, session.get_one(RequestRow, gone), "test")
    assert world.keep_up() is None
    world.put_back()
    assert world.readable(gone)  # the copy knew its key
    assert world.keep_up() == Replayed(requests=1)
    assert (world.readable(gone), world.readable(stays)) == (False, True)
    assert world.tags()[-1] == "payload.shredded"
    assert world.keep_up() is None
    assert erasures.rolled_back_at(world.store)


def test_what_was_kept_of_a_completed_request_is_kept_again(world: World) -> None:
    one = world.add_request(EvidenceRow(words=7, n_hashes=1, hashes=b"8 bytes!"))
    world.copy()
    with world.database.transaction() as session:
        retention.settle(session, session.get_one(RequestRow, one), "test")
    world.keep_up()
    world.put_back()
    assert world.keep_up() == Replayed(requests=1)
    assert not world.readable(one)
    with world.database.reading() as session:
        assert [row.hashes for row in retention.hashed_of(session, [one])] == [b"8 bytes!"]


def test_what_was_kept_and_then_dropped_too_is_not(world: World) -> None:
    one = world.add_request(EvidenceRow(words=7, n_hashes=1, hashes=b"8 bytes!"))
    world.copy()
    for end in (retention.settle, retention.shred):
        with world.database.transaction() as session:
            end(session, session.get_one(RequestRow, one), "test")
    world.keep_up()
    world.put_back()
    world.keep_up()
    with world.database.reading() as session:
        assert retention.hashed_of(session, [one]) == ()


def test_a_dataset_that_was_replaced_does_not_come_back(world: World) -> None:
    with world.database.transaction() as session:
        model = make_model(session)

    def put(letter: str) -> None:
        row = DatasetRow(
            id=new_id("dat"), tenant_id=model.tenant_id, model_id=model.id, role="training", rows=1, size_bytes=1,
            plain_digest="x", file_digest=digest(letter), wrapped_key=b"k",
        )  # fmt: skip
        with world.database.transaction() as session:
            put_dataset(session, session.get_one(ModelRow, model.id), row, "test")

    put("a")
    world.copy()
    put("b")
    world.keep_up()
    world.put_back()
    assert world.keep_up() == Replayed(datasets=1)
    with world.database.reading() as session:
        assert session.scalars(sa.select(DatasetRow)).all() == []
    assert world.tags()[-1] == "dataset.dropped"


def test_a_purged_version_is_purged_again_unless_it_is_head_again(world: World) -> None:
    def publish_next(model_id: str, letter: str) -> None:
        with world.database.transaction() as session:
            make_job(session, session.get_one(ModelRow, model_id))
        with world.database.transaction() as session:
            held = jobs.claim(session, model_id, "test", 60.0, 3)
            assert held is not None
            versions.publish(session, held, versions.next_number(session, model_id), versions.Files(digest(letter), 1))

    with world.database.transaction() as session:
        model_id = make_model(session).id
    publish_next(model_id, "1")
    world.copy()
    publish_next(model_id, "2")
    with world.database.transaction() as session:
        for number in (1, 2):
            version = versions.version_of(session, model_id, number)
            assert version is not None
            purge(session, version, "test")
    world.keep_up()
    world.put_back()
    assert world.keep_up() == Replayed(versions=1, heads=1)
    with world.database.reading() as session:
        states = session.scalars(sa.select(VersionRow.state).order_by(VersionRow.number)).all()
    assert states == [VersionState.PURGED, VersionState.PUBLISHED]


def test_a_key_that_was_shut_does_not_open_again(world: World) -> None:
    with world.database.transaction() as session:
        tenant = make_tenant(session)
        made = [tenants.create_key(session, tenant.id, name, ["admin"]) for name in ("leaked", "old", "stays")]
    world.copy()
    leaked, old, stays = [row.id for row, _ in made]
    with world.database.transaction() as session:
        api_keys.revoke(session, tenant.id, leaked, "test")
        api_keys.rotate(session, tenant.id, old, timedelta(0), None, "test")
    world.keep_up()
    world.put_back()
    assert world.keep_up() == Replayed(keys=2)
    with world.database.reading() as session:
        later = utc_now() + timedelta(seconds=1)
        is_open = {one: api_keys.is_open(api_keys.find(session, tenant.id, one), later) for one in (leaked, old, stays)}
    assert is_open == {leaked: False, old: False, stays: True}
    assert erasures.replay(world.database, world.store) == Replayed()


def test_a_key_within_its_overlap_is_left_to_end_then(world: World) -> None:
    with world.database.transaction() as session:
        tenant = make_tenant(session)
        key = tenants.create_key(session, tenant.id, "old", ["admin"])[0]
        api_keys.rotate(session, tenant.id, key.id, timedelta(hours=1), None, "test")
    world.keep_up()
    assert erasures.replay(world.database, world.store) == Replayed()


def test_a_history_that_grew_past_the_old_one_is_told_from_it(world: World) -> None:
    gone = world.add_request()
    world.copy()
    with world.database.transaction() as session:
        retention.shred(session, session.get_one(RequestRow, gone), "test")
    world.keep_up()
    world.put_back()
    world.add_request()  # entries under the positions of those that were lost
    assert world.keep_up() == Replayed(requests=1)


def test_nothing_is_read_twice_and_long_quiet_logs_are_followed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasures, "BATCH", 2)
    ids = [world.add_request() for _ in range(5)]
    with world.database.transaction() as session:
        for one in ids:
            retention.shred(session, session.get_one(RequestRow, one), "test")
    world.keep_up()
    assert {name.rpartition(".")[2] for name in world.store.note_names("gone.")} == set(ids)
    before = world.store.note("log")
    world.add_request()
    world.keep_up()
    assert world.store.note("log") == before
    monkeypatch.setattr(erasures, "EVERY_ENTRIES", 1)
    world.keep_up()
    assert world.store.note("log") != before


def test_a_head_cannot_be_purged(world: World) -> None:
    with world.database.transaction() as session:
        version = versions.version_of(session, make_model(session).id, 1)
        assert version is not None
        with pytest.raises(moves.Conflict, match="is published"):
            purge(session, version, "test")
