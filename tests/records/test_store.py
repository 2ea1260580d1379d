"""Blobs: durable, verified, shared between processes; what a crash, a full disk or a rotten byte does to them."""

import errno
import hashlib
import os
import pickle
import resource
import stat
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.manifest import DigestInvalid, Entry, manifest, manifest_of_folder
from records.store import Blob, BlobMissing, CorruptBlob, FolderStore, StoreFull

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
NOWHERE = "sha256:" + "0" * 64


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def temporary_files(store):
    return list((store.root / "tmp").iterdir())


def rot(store, digest, at=0):
    """Change one byte on the disk."""
    path = store.path(digest)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_blob_lies_under_its_digest(store):
    assert store.put_bytes(b"abc") == Blob(ABC, 3)
    path = store.root / "blobs" / "sha256" / "ba" / ABC.removeprefix("sha256:")
    assert store.path(ABC) == path
    assert path.read_bytes() == b"abc"
    assert temporary_files(store) == []


def read_to_end(file, read):
    while chunk := file.read(1000):
        read += chunk


def write_all(store, pieces, sinks):
    with store.writer() as sink:
        sinks.append(sink)
        for piece in pieces:
            sink.write(piece)


def test_modes_let_a_web_server_read_a_file_but_nobody_list_the_store(store):
    store.put_bytes(b"abc")
    assert stat.S_IMODE(store.path(ABC).stat().st_mode) == 0o644
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700


def test_a_file_is_copied_whatever_its_mode(store, tmp_path):
    source = tmp_path / "model.safetensors"
    source.write_bytes(b"abc")
    source.chmod(0o600)
    assert store.put_file(source) == Blob(ABC, 3)
    source.write_bytes(b"xyz")
    assert store.read_bytes(ABC) == b"abc"
    assert stat.S_IMODE(store.path(ABC).stat().st_mode) == 0o644


@given(pieces=st.lists(st.binary(max_size=200)))
def test_a_stream_has_the_digest_of_its_bytes(tmp_path_factory, pieces):
    store = FolderStore(tmp_path_factory.mktemp("store"))
    whole = b"".join(pieces)
    with store.writer() as sink:
        for piece in pieces:
            sink.write(piece)
    assert sink.blob == Blob("sha256:" + hashlib.sha256(whole).hexdigest(), len(whole))
    assert store.read_bytes(sink.blob.digest) == whole
    assert store.verify(sink.blob.digest) == sink.blob


def test_a_stream_that_fails_leaves_nothing(store):
    def fail():
        yield b"abc"
        raise ZeroDivisionError

    sinks = []
    with pytest.raises(ZeroDivisionError):
        write_all(store, fail(), sinks)
    assert list(store.iter_digests()) == []
    assert temporary_files(store) == []
    with pytest.raises(RuntimeError, match="has ended"):
        _ = sinks[0].blob


def test_lines_can_be_read_from_a_blob(store):
    blob = store.put_bytes(b'{"a":1}\n{"b":2}\n')
    with store.open(blob.digest) as file:
        assert list(file) == [b'{"a":1}\n', b'{"b":2}\n']


def test_putting_again_is_a_success_and_makes_the_blob_young(store):
    store.put_bytes(b"abc")
    os.utime(store.path(ABC), (0, 0))
    assert list(store.iter_digests(older_than_seconds=3600)) == [ABC]
    assert store.put_bytes(b"abc") == Blob(ABC, 3)
    assert list(store.iter_digests(older_than_seconds=3600)) == []


def test_putting_again_mends_a_rotten_blob(store):
    store.put_bytes(b"abc")
    rot(store, ABC)
    store.put_bytes(b"abc")
    assert store.read_bytes(ABC) == b"abc"
    assert temporary_files(store) == []


@pytest.mark.parametrize("at", [0, 1_500_000, 2_999_999])
def test_a_rotten_byte_is_found_before_the_end_is_handed_out(store, at):
    data = os.urandom(3_000_000)
    digest = store.put_bytes(data).digest
    rot(store, digest, at)
    read = bytearray()
    with store.open(digest) as file, pytest.raises(CorruptBlob, match=digest):
        read_to_end(file, read)
    assert len(read) < len(data)
    for look in (store.verify, store.read_bytes):
        with pytest.raises(CorruptBlob):
            look(digest)


@pytest.mark.parametrize("size_bytes", [0, 1, 2, 4])
def test_a_blob_of_another_length_is_found(store, size_bytes):
    store.put_bytes(b"abc")
    with store.path(ABC).open("r+b") as file:
        file.truncate(size_bytes)
    with pytest.raises(CorruptBlob):
        store.read_bytes(ABC)


def test_what_is_not_there_is_missing(store):
    assert not store.exists(NOWHERE)
    assert store.delete(NOWHERE) is False
    for look in (store.open, store.path, store.verify, store.read_bytes):
        with pytest.raises(BlobMissing, match=NOWHERE):
            look(NOWHERE)


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc/passwd", "/etc/passwd", ABC.upper(), "", ABC + "/x", "sha256:"]
)
def test_only_digests_reach_the_file_system(store, digest):
    for look in (store.open, store.path, store.exists, store.delete, store.verify, store.read_bytes):
        with pytest.raises(DigestInvalid):
            look(digest)


def test_the_crash_before_the_link_leaves_only_a_file_to_sweep(store):
    """A process killed in the middle of a put."""
    script = (
        "import os, sys, pathlib; from records.store import FolderStore\n"
        "with FolderStore(pathlib.Path(sys.argv[1])).writer() as sink:\n"
        "    sink.write(b'abc'); sink.file.flush(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, store.root]).returncode == -9
    assert list(store.iter_digests()) == []
    assert len(temporary_files(store)) == 1
    assert store.usage().temporary_bytes == 3
    assert store.sweep_temporary(older_than_seconds=3600) == 0
    os.utime(temporary_files(store)[0], (0, 0))
    assert store.sweep_temporary(older_than_seconds=3600) == 1
    assert temporary_files(store) == []


def test_a_full_disk_is_told_in_words_and_leaves_nothing(store):
    """A real limit of the operating system, in a process of its own: a file may not grow beyond 64 KiB."""
    script = (
        "import os, resource, signal, sys, pathlib; from records.store import FolderStore, StoreFull\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "store = FolderStore(pathlib.Path(sys.argv[1]))\n"
        "store.put_bytes(b'abc')\n"
        "try: store.put_bytes(os.urandom(1 << 20))\n"
        "except StoreFull as full: print(full.status, full)"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", script, store.root], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("507 The store's disk is full")
    assert list(store.iter_digests()) == [ABC]
    assert temporary_files(store) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_while_syncing_is_told_too(store, monkeypatch, code):
    def full(_descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFull):
        store.put_bytes(b"abc")
    assert not store.exists(ABC)
    assert temporary_files(store) == []


def test_the_blob_is_synced_before_it_is_visible_and_its_folder_after(store, monkeypatch):
    store.put_bytes(b"other")
    seen, real = [], os.fsync

    def watching(descriptor):
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), store.exists(ABC)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watching)
    store.put_bytes(b"abc")
    assert (False, False) in seen  # the file, before
    assert seen[-1] == (True, True)  # the folder, after


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
    assert temporary_files(store) == []


def test_processes_that_put_and_delete_the_same_bytes_never_tear_it(store):
    """A blob that is put while another process deletes it is whole or absent, at every look."""
    script = (
        "import sys, pathlib; from records.store import FolderStore\n"
        "store = FolderStore(pathlib.Path(sys.argv[1])); data = b'abc' * 50_000\n"
        "for _ in range(30): store.delete(store.put_bytes(data).digest)"
    )
    digest = "sha256:" + hashlib.sha256(b"abc" * 50_000).hexdigest()
    workers = [subprocess.Popen([sys.executable, "-c", script, store.root]) for _ in range(2)]
    while any(worker.poll() is None for worker in workers):
        try:
            assert store.verify(digest).size_bytes == 150_000
        except BlobMissing:
            time.sleep(0.001)
    assert [worker.returncode for worker in workers] == [0, 0]
    assert list(store.iter_digests()) == []


def test_a_collector_does_not_take_a_young_blob(store):
    store.put_bytes(b"abc")
    assert store.delete(ABC, older_than_seconds=3600) is False
    os.utime(store.path(ABC), (0, 0))
    assert store.delete(ABC, older_than_seconds=3600) is True
    assert not store.exists(ABC)


def test_usage_counts_blobs_once(store):
    store.put_bytes(b"abc")
    store.put_bytes(b"abc")
    store.put_bytes(b"")
    usage = store.usage()
    assert (usage.blobs, usage.size_bytes, usage.temporary_bytes) == (2, 3, 0)
    assert usage.free_bytes > 0


def files_of(store):
    one, two = store.put_bytes(b"abc"), store.put_bytes(b"weights")
    return manifest([Entry("config.json", one.digest, 3), Entry("deep/model.safetensors", two.digest, 7)])


def test_a_version_is_laid_out_by_hard_links(store, tmp_path):
    files = files_of(store)
    store.materialise(files, tmp_path / "new" / "version")
    assert manifest_of_folder(tmp_path / "new" / "version") == files
    assert (tmp_path / "new" / "version" / "config.json").samefile(store.path(ABC))


def test_a_version_is_copied_where_links_do_not_reach(store, tmp_path, monkeypatch):
    def other_device(*_paths):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    files = files_of(store)
    monkeypatch.setattr(os, "link", other_device)
    store.materialise(files, tmp_path / "version")
    assert manifest_of_folder(tmp_path / "version") == files
    assert not (tmp_path / "version" / "config.json").samefile(store.path(ABC))
    rot(store, ABC)
    with pytest.raises(CorruptBlob):
        store.materialise(files, tmp_path / "again")


@pytest.mark.parametrize(
    ("harm", "error"),
    [(lambda store: rot(store, ABC), CorruptBlob), (lambda store: store.delete(ABC), BlobMissing)],
)
def test_a_version_that_is_not_whole_is_not_laid_out(store, tmp_path, harm, error):
    files = files_of(store)
    harm(store)
    with pytest.raises(error):
        store.materialise(files, tmp_path / "out" / "version")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_manifest_that_lies_about_a_size_is_found(store, tmp_path):
    store.put_bytes(b"abc")
    with pytest.raises(CorruptBlob, match="3 bytes and its manifest says 4"):
        store.materialise(manifest([Entry("a", ABC, 4)]), tmp_path / "version")


def test_a_folder_in_use_is_not_touched(store, tmp_path):
    (tmp_path / "mine").write_bytes(b"x")
    with pytest.raises(FileExistsError, match="not empty"):
        store.materialise(files_of(store), tmp_path)
    assert (tmp_path / "mine").read_bytes() == b"x"


def test_an_old_store_opens_again(store):
    store.put_bytes(b"abc")
    assert list(FolderStore(store.root).iter_digests()) == [ABC]


def test_refusals_pickle():
    refusal = pickle.loads(pickle.dumps(StoreFull("The store's disk is full.")))
    assert (type(refusal), str(refusal), refusal.status) == (StoreFull, "The store's disk is full.", 507)
