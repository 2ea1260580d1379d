"""Blobs that no row names are collected, and no other: in a folder and in buckets, on both databases."""

import itertools
from datetime import timedelta

import pytest

from records import garbage, jobs, versions
from records.base import Row, new_id, utc_now
from records.blobs import BlobMissing
from records.database import Database
from records.garbage import NAMES, Collector
from records.manifest import Entry, manifest
from records.purging import purge
from records.rows import DatasetRow, EvidenceRow, JobRow, ModelRow
from records.store import Store
from tests.make import digest, make_job, make_request, make_tenant
from tests.records.test_store_contract import Kept, kept, moto_server, rclone_server, store

__all__ = ["kept", "moto_server", "rclone_server", "store"]

HOUR = 3600.0
DAY = 24 * HOUR
ONLY_ONE_SHARD_AT_A_TIME = 1e-9
NO_BLOBS = {
    "api_keys.digest", "audit_entries.commitment", "datasets.plain_digest", "erasure_requests.policy_digest",
    "upload_files.digest",
}  # fmt: skip
_letters = itertools.count()


def put(kept: Kept, age: float = 30 * DAY) -> str:
    """A new blob of that age."""
    found = kept.store.put_bytes(b"blob %d" % next(_letters)).digest
    if age:
        kept.age(found, age)
    return found


def put_version(kept: Kept, *files: str) -> versions.Files:
    """A manifest of these blobs, as old."""
    listed = manifest(Entry(f"{number}.bin", file, 1) for number, file in enumerate(files))
    kept.store.put_bytes(listed.to_json())
    kept.age(listed.digest, 30 * DAY)
    return versions.Files(listed.digest, 1, put(kept), put(kept))


def publish(database: Database, kept: Kept, model_id: str, files: versions.Files) -> None:
    with database.transaction() as session:
        make_job(session, session.get_one(ModelRow, model_id))
    with database.transaction() as session:
        held = jobs.claim(session, model_id, "test", 60.0, 3)
        assert held is not None
        versions.publish(session, held, versions.next_number(session, model_id), files)


def first_model(database: Database, files: versions.Files) -> str:
    """A model whose version 1 has these files."""
    with database.transaction() as session:
        tenant = make_tenant(session)
        model = ModelRow(tenant_id=tenant.id, name="acme/model", source={})
        session.add(model)
        session.flush()
        versions.first_version(session, model, files, "test")
        return model.id


def shards_of(store: Store) -> list[str]:
    """Those that hold something: asking a server 256 times takes its time."""
    return sorted({found[7:9] for found in store.iter_digests()})


def collect(database: Database, store: Store, hours: float = 48.0) -> int:
    """One whole walk."""
    collector = Collector(database, store, hours * HOUR, shards_of(store))
    deleted = collector.step()
    while collector._left:
        deleted += collector.step()
    return deleted


@pytest.fixture(autouse=True)
def once_a_store(request: pytest.FixtureRequest) -> None:
    """Servers are slow: with one database is enough."""
    params = getattr(request.node, "callspec", None)
    if params and params.params.get("kept") in ("moto", "rclone") and params.params.get("database") != "sqlite":
        pytest.skip("tried with SQLite")


def test_every_column_that_names_a_blob_is_known() -> None:
    known = {f"{column.class_.__tablename__}.{column.key}" for column in NAMES}
    words = ("digest", "file", "commitment", "stored")
    named = {
        f"{table.name}.{column.name}"
        for table in Row.metadata.sorted_tables
        for column in table.columns
        if any(column.name == word or column.name.endswith("_" + word) for word in words)
    }
    assert named == known | NO_BLOBS


def test_what_rows_name_stays_and_old_orphans_go(database: Database, kept: Kept) -> None:
    weights = [put(kept), put(kept)]
    files = put_version(kept, *weights)
    model_id = first_model(database, files)
    named = [put(kept) for _ in range(4)]
    with database.transaction() as session:
        request = make_request(session, session.get_one(ModelRow, model_id))
        request.payload_file = named[0]
        evidence = EvidenceRow(request_id=request.id, tenant_id=request.tenant_id, file=named[1], spent_file=named[2])
        dataset = DatasetRow(
            id=new_id("dat"), tenant_id=request.tenant_id, model_id=model_id, role="retain", rows=1, size_bytes=1,
            plain_digest="x", file_digest=named[3], wrapped_key=b"k",
        )  # fmt: skip
        session.add_all([evidence, dataset])
    orphan, young = put(kept), put(kept, age=HOUR)
    statements = [files.manifest_digest, files.attestation_digest, files.signature_digest]
    assert collect(database, kept.store) == 1
    assert not kept.store.exists(orphan)
    for stays in (*weights, *named, *statements, young):
        assert kept.store.exists(stays)
    assert collect(database, kept.store) == 0


def test_one_that_gets_a_row_between_listing_and_deletion_stays(database: Database, kept: Kept, monkeypatch) -> None:
    model_id = first_model(database, put_version(kept))
    orphan, put_again = put(kept), put(kept)
    data, real = kept.store.read_bytes(put_again), garbage.named

    def late(session, manifests, shard):
        """A request is taken in and a file put again, after the store was listed."""
        with database.transaction() as writing:
            if shard == orphan[7:9]:
                make_request(writing, writing.get_one(ModelRow, model_id)).payload_file = orphan
        found = real(session, manifests, shard)
        if shard == put_again[7:9]:
            kept.store.put_bytes(data)
        return found

    monkeypatch.setattr(garbage, "named", late)
    assert collect(database, kept.store) == 0
    assert kept.store.exists(orphan)
    assert kept.store.exists(put_again)


def test_weights_of_a_purged_version_go_and_those_it_shares_stay(database: Database, kept: Kept) -> None:
    own, shared = put(kept), put(kept)
    first = put_version(kept, own, shared)
    model_id = first_model(database, first)
    publish(database, kept, model_id, put_version(kept, shared))
    assert collect(database, kept.store) == 0
    with database.transaction() as session:
        version = versions.version_of(session, model_id, 1)
        assert version is not None
        purge(session, version, "test")
    assert collect(database, kept.store) == 1
    assert [kept.store.exists(one) for one in (own, shared, first.manifest_digest)] == [False, True, True]


def test_nothing_that_a_running_job_may_have_put_is_touched(database: Database, kept: Kept) -> None:
    model_id = first_model(database, put_version(kept))
    with database.transaction() as session:
        job = make_job(session, session.get_one(ModelRow, model_id))
    with database.transaction() as session:
        assert jobs.claim(session, model_id, "test", 60.0, 3)
        session.get_one(JobRow, job.id).started_at = utc_now() - timedelta(days=10)
    older, younger = put(kept, 11 * DAY), put(kept, 9 * DAY)
    assert collect(database, kept.store) == 1
    assert [kept.store.exists(one) for one in (older, younger)] == [False, True]


def test_an_empty_database_collects_nothing(database: Database, kept: Kept) -> None:
    orphan = put(kept)
    assert collect(database, kept.store) == 0
    assert kept.store.exists(orphan)


def test_a_database_that_was_just_put_back_collects_nothing(database: Database, kept: Kept) -> None:
    first_model(database, put_version(kept))
    orphan = put(kept)
    kept.store.put_note("rolled-back", utc_now().isoformat().encode())
    assert collect(database, kept.store) == 0
    kept.store.put_note("rolled-back", (utc_now() - timedelta(hours=49)).isoformat().encode())
    assert collect(database, kept.store) == 1
    assert not kept.store.exists(orphan)


def test_a_manifest_that_is_missing_stops_the_walk(database: Database, kept: Kept) -> None:
    first_model(database, versions.Files(digest("7"), 1))
    orphan = put(kept)
    collector = Collector(database, kept.store, HOUR, shards_of(kept.store))
    with pytest.raises(BlobMissing):
        collector.step()
    assert collector.step() == 0
    assert kept.store.exists(orphan)


def test_a_walk_goes_on_where_it_stopped(database: Database, kept: Kept, monkeypatch) -> None:
    first_model(database, put_version(kept))
    gone = [put(kept) for _ in range(6)]
    monkeypatch.setattr(garbage, "STEP_SECONDS", ONLY_ONE_SHARD_AT_A_TIME)
    collector = Collector(database, kept.store, HOUR, shards_of(kept.store))
    first = collector.step()
    assert first <= 2
    monkeypatch.setattr(garbage, "STEP_SECONDS", 60.0)
    assert first + collector.step() == 6
    assert not any(map(kept.store.exists, gone))
    put(kept)
    assert collector.step() == 0  # the next walk is an hour away
