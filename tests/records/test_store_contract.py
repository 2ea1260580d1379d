"""What every store promises, wherever it keeps its blobs: a folder, and two object stores that differ."""

import copy
import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from records.manifest import DigestInvalid, Entry, manifest, manifest_of_folder
from records.read_cache import ReadCache
from records.store import Blob, BlobMissing, CorruptBlob, FolderStore, Store
from tests.object_stores import moto_server, rclone_server

__all__ = ["moto_server", "rclone_server"]

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
NOWHERE = "sha256:" + "0" * 64
PART_BYTES = 5 * 2**20  # the least that S3 takes as a part


@dataclass
class Kept:
    """A store, and what a test does behind its back: make a blob old, change its bytes."""

    store: Store
    age: Callable[[str, float], None]
    rewrite: Callable[[str, bytes], None]


@pytest.fixture(params=["folder", "moto", "rclone"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    if request.param == "folder":
        yield _in_folder(tmp_path)
        return
    server = request.getfixturevalue(f"{request.param}_server")
    from records import s3_upload  # boto3 may be absent: the server's fixture skips then
    from records.object_store import ObjectStore

    monkeypatch.setattr(s3_upload, "PART_BYTES", PART_BYTES)
    prefix = uuid.uuid4().hex
    s3 = copy.copy(server.s3)  # a client takes its time to make
    s3.prefix = f"{prefix}/"
    store = ObjectStore(s3, ReadCache(tmp_path / "cache", 1 << 30))

    def key(digest: str) -> str:
        name = digest.removeprefix("sha256:")
        return f"{prefix}/blobs/sha256/{name[:2]}/{name}"

    yield Kept(store, lambda d, seconds: server.age(key(d), seconds), lambda d, data: server.rewrite(key(d), data))


@pytest.fixture
def store(kept: Kept) -> Store:
    return kept.store


def _in_folder(tmp_path: Path) -> Kept:
    store = FolderStore(tmp_path / "store")

    def age(digest: str, seconds: float) -> None:
        then = store.path(digest).stat().st_mtime - seconds
        os.utime(store.path(digest), (then, then))

    return Kept(store, age, lambda digest, data: store.path(digest).write_bytes(data) and None)


def rotten(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def nothing_is_left(store: Store) -> bool:
    return list(store.iter_digests()) == [] and store.usage().temporary_bytes == 0


def read_to_end(file, read):
    while chunk := file.read(1000):
        read += chunk


def test_a_blob_is_named_by_its_bytes(store):
    assert store.put_bytes(b"abc") == Blob(ABC, 3)
    assert store.read_bytes(ABC) == b"abc"
    assert store.path(ABC).read_bytes() == b"abc"
    assert store.exists(ABC)
    assert store.usage().temporary_bytes == 0


def test_the_empty_blob_is_a_blob(store):
    blob = store.put_bytes(b"")
    assert (blob.size_bytes, store.read_bytes(blob.digest), store.verify(blob.digest)) == (0, b"", blob)


@pytest.mark.parametrize("size_bytes", [100, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 77])
def test_a_file_is_copied_whatever_its_size_and_mode(store, tmp_path, size_bytes):
    source = tmp_path / "model.safetensors"
    data = os.urandom(size_bytes)
    source.write_bytes(data)
    source.chmod(0o600)
    blob = store.put_file(source)
    assert blob == Blob("sha256:" + hashlib.sha256(data).hexdigest(), size_bytes)
    source.write_bytes(b"changed")
    assert store.read_bytes(blob.digest) == data
    assert store.usage().temporary_bytes == 0


def test_a_large_file_put_twice_is_one_blob(store, tmp_path):
    source = tmp_path / "model.safetensors"
    source.write_bytes(os.urandom(2 * PART_BYTES + 77))
    first, second = store.put_file(source), store.put_file(source)
    assert first == second == store.verify(first.digest)
    assert store.usage().blobs == 1


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=200)))
def test_a_stream_has_the_digest_of_its_bytes(store, pieces):
    whole = b"".join(pieces)
    with store.writer() as sink:
        for piece in pieces:
            sink.write(piece)
    assert sink.blob == Blob("sha256:" + hashlib.sha256(whole).hexdigest(), len(whole))
    assert store.verify(sink.blob.digest) == sink.blob


def write_and_fail(store, sinks):
    with store.writer() as sink:
        sinks.append(sink)
        sink.write(b"abc")
        raise ZeroDivisionError


def test_a_stream_that_fails_leaves_nothing(store):
    sinks = []
    with pytest.raises(ZeroDivisionError):
        write_and_fail(store, sinks)
    assert nothing_is_left(store)
    with pytest.raises(RuntimeError, match="has ended"):
        _ = sinks[0].blob


def test_lines_can_be_read_from_a_blob(store):
    blob = store.put_bytes(b'{"a":1}\n{"b":2}\n')
    with store.open(blob.digest) as file:
        assert list(file) == [b'{"a":1}\n', b'{"b":2}\n']


@pytest.mark.parametrize("size_bytes", [3, 2 * PART_BYTES + 77], ids=["small", "in parts"])
def test_putting_again_is_a_success_and_makes_the_blob_young(kept, tmp_path, size_bytes):
    source = tmp_path / "file"
    source.write_bytes(os.urandom(size_bytes))
    blob = kept.store.put_file(source)
    kept.age(blob.digest, 7200)
    assert list(kept.store.iter_digests(older_than_seconds=3600)) == [blob.digest]
    assert kept.store.put_file(source) == blob
    assert list(kept.store.iter_digests(older_than_seconds=3600)) == []
    assert kept.store.verify(blob.digest) == blob


@pytest.mark.parametrize("size_bytes", [3, 2 * PART_BYTES + 77], ids=["small", "in parts"])
def test_putting_again_mends_a_rotten_blob(kept, tmp_path, size_bytes):
    source = tmp_path / "file"
    source.write_bytes(os.urandom(size_bytes))
    blob = kept.store.put_file(source)
    kept.rewrite(blob.digest, rotten(source.read_bytes()))
    with pytest.raises(CorruptBlob):
        kept.store.verify(blob.digest)
    kept.store.put_file(source)
    assert kept.store.verify(blob.digest) == blob


@pytest.mark.parametrize("at", [0, 1_500_000, 2_999_999])
def test_a_rotten_byte_is_found_before_the_end_is_handed_out(kept, at):
    data = os.urandom(3_000_000)
    digest = kept.store.put_bytes(data).digest
    kept.rewrite(digest, rotten(data, at))
    read = bytearray()
    with kept.store.open(digest) as file, pytest.raises(CorruptBlob, match=digest):
        read_to_end(file, read)
    assert len(read) < len(data)
    for look in (kept.store.verify, kept.store.read_bytes):
        with pytest.raises(CorruptBlob):
            look(digest)


def test_a_blob_of_another_length_is_found(kept):
    for size_bytes in (0, 1, 2, 4):
        kept.store.put_bytes(b"abc")
        kept.rewrite(ABC, b"abcd"[:size_bytes])
        with pytest.raises(CorruptBlob):
            kept.store.read_bytes(ABC)


def test_what_is_not_there_is_missing(store):
    assert not store.exists(NOWHERE)
    assert store.delete(NOWHERE) is False
    for look in (store.open, store.path, store.verify, store.read_bytes, store.fingerprint):
        with pytest.raises(BlobMissing, match=NOWHERE):
            look(NOWHERE)


def test_only_digests_reach_the_store(store):
    looks = (store.open, store.path, store.exists, store.delete, store.verify, store.read_bytes, store.fingerprint)
    for digest in ("sha256:../../../etc/passwd", "/etc/passwd", ABC.upper(), "", ABC + "/x", "sha256:"):
        for look in looks:
            with pytest.raises(DigestInvalid):
                look(digest)


def test_a_range_is_read_under_the_fingerprint_of_what_was_verified(kept):
    data = os.urandom(3_000_000)
    digest = kept.store.put_bytes(data).digest
    before = kept.store.fingerprint(digest)
    assert before == kept.store.fingerprint(digest)
    for begin, end in ((0, 1), (5, 2_500_000), (2_999_999, 3_000_000), (0, 3_000_000)):
        assert b"".join(kept.store.read_range(digest, begin, end, before)) == data[begin:end]
    kept.rewrite(digest, rotten(data))
    assert kept.store.fingerprint(digest) != before


def test_threads_that_put_the_same_bytes_all_succeed(store):
    data = os.urandom(1 << 18)
    found, start = [], threading.Barrier(8)

    def put():
        start.wait()
        found.append(store.put_bytes(data))

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {store.verify(found[0].digest)}
    assert store.usage().blobs == 1


def test_a_collector_does_not_take_a_young_blob(kept):
    kept.store.put_bytes(b"abc")
    assert kept.store.delete(ABC, older_than_seconds=3600) is False
    kept.age(ABC, 7200)
    assert kept.store.delete(ABC, older_than_seconds=3600) is True
    assert not kept.store.exists(ABC)
    assert kept.store.delete(ABC) is False


def test_a_deleted_blob_is_read_nowhere(store, tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    store.put_file(tmp_path / "file")
    assert store.path(ABC).exists()
    assert store.delete(ABC) is True
    for look in (store.open, store.path, store.verify, store.read_bytes):
        with pytest.raises(BlobMissing):
            look(ABC)


def test_every_blob_is_listed_once(store):
    digests = {store.put_bytes(bytes([number])).digest for number in range(20)}
    listed = list(store.iter_digests())
    assert (set(listed), len(listed)) == (digests, 20)


def test_usage_counts_blobs_once(store):
    store.put_bytes(b"abc")
    store.put_bytes(b"abc")
    store.put_bytes(b"")
    usage = store.usage()
    assert (usage.blobs, usage.size_bytes, usage.temporary_bytes) == (2, 3, 0)


def test_a_check_leaves_no_blob(store):
    store.check()
    assert nothing_is_left(store)


def files_of(store):
    one, two = store.put_bytes(b"abc"), store.put_bytes(b"weights")
    return manifest([Entry("config.json", one.digest, 3), Entry("deep/model.safetensors", two.digest, 7)])


def test_a_version_is_laid_out(store, tmp_path):
    files = files_of(store)
    store.materialise(files, tmp_path / "new" / "version")
    assert manifest_of_folder(tmp_path / "new" / "version") == files
    assert (tmp_path / "new" / "version" / "config.json").samefile(store.path(ABC))


@pytest.mark.parametrize(
    ("harm", "error"),
    [(lambda kept: kept.rewrite(ABC, b"abd"), CorruptBlob), (lambda kept: kept.store.delete(ABC), BlobMissing)],
)
def test_a_version_that_is_not_whole_is_not_laid_out(kept, tmp_path, harm, error):
    files = files_of(kept.store)
    harm(kept)
    with pytest.raises(error):
        kept.store.materialise(files, tmp_path / "out" / "version")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_manifest_that_lies_about_a_size_is_found(store, tmp_path):
    store.put_bytes(b"abc")
    with pytest.raises(CorruptBlob, match="3 bytes and its manifest says 4"):
        store.materialise(manifest([Entry("a", ABC, 4)]), tmp_path / "version")


def test_a_folder_in_use_is_not_touched(store, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_bytes(b"x")
    with pytest.raises(FileExistsError, match="not empty"):
        store.materialise(files_of(store), mine)
    assert (mine / "file").read_bytes() == b"x"


def test_notes_are_kept_beside_the_blobs(store):
    assert (store.note("log"), list(store.note_names(""))) == (None, [])
    store.put_note("log", b"1")
    store.put_note("log", b"22")
    store.put_note("gone.a-1", b"")
    assert (store.note("log"), store.note("gone.a-1")) == (b"22", b"")
    assert list(store.note_names("gone.")) == ["gone.a-1"]
    assert sorted(store.note_names("")) == ["gone.a-1", "log"]
    assert list(store.iter_digests()) == []
    assert store.usage().temporary_bytes == 0
    for name in ("", "../log", "a/b", ".hidden", "a" * 201):
        with pytest.raises(ValueError, match="name of a note"):
            store.put_note(name, b"")


def test_blobs_are_listed_by_shard_with_their_sizes(kept):
    blobs = [kept.store.put_bytes(bytes([number])) for number in range(8)]
    kept.age(blobs[0].digest, 7200)
    shards = {blob.digest[7:9] for blob in blobs}
    assert {blob for shard in shards for blob in kept.store.iter_shard(shard)} == set(blobs)
    assert list(kept.store.iter_shard(blobs[0].digest[7:9], older_than_seconds=3600)) == [blobs[0]]
    empty = next(f"{n:02x}" for n in range(256) if f"{n:02x}" not in shards)
    assert list(kept.store.iter_shard(empty)) == []
