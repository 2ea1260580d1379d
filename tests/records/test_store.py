"""Blobs in a folder: synced, linked, locked; what a crash, a full disk or two processes do to them.

What every store promises is in test_store_contract.py.
"""

import errno
import hashlib
import os
import pickle
import resource
import stat
import subprocess
import sys
import time

import pytest

from records.manifest import Entry, manifest, manifest_of_folder
from records.store import Blob, BlobMissing, CorruptBlob, FolderStore, StoreAway, StoreFull

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


def test_putting_again_mends_a_rotten_blob(store):
    store.put_bytes(b"abc")
    rot(store, ABC)
    store.put_bytes(b"abc")
    assert store.read_bytes(ABC) == b"abc"
    assert temporary_files(store) == []


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


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
def test_a_disk_that_takes_nothing_is_away_until_it_is_mended(store, monkeypatch, number):
    def broken(_descriptor):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as fault:
        fault.setattr(os, "fsync", broken)
        with pytest.raises(StoreAway, match=errno.errorcode[number]) as told:
            store.put_bytes(b"abc")
    assert told.value.status == 503
    assert str(store.root) not in told.value.detail
    assert temporary_files(store) == []
    assert store.put_bytes(b"abc") == Blob(ABC, 3)


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


def test_an_old_store_opens_again(store):
    store.put_bytes(b"abc")
    assert list(FolderStore(store.root).iter_digests()) == [ABC]


def test_refusals_pickle():
    refusal = pickle.loads(pickle.dumps(StoreFull("The store's disk is full.")))
    assert (type(refusal), str(refusal), refusal.status) == (StoreFull, "The store's disk is full.", 507)
