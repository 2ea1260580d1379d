"""The cache of verified weights: what enters, what goes, and what several processes do to it at once."""

import errno
import hashlib
import io
import os
import subprocess
import sys
import threading
from collections import namedtuple

import pytest

from records import read_cache
from records.read_cache import ReadCache
from records.store import CorruptBlob

DATA = os.urandom(100_000)


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


DIGEST = digest_of(DATA)


@pytest.fixture
def cache(tmp_path):
    return ReadCache(tmp_path / "cache", 1 << 30)


class Bucket:
    """Opens blobs, and counts how often."""

    def __init__(self, data=DATA):
        self.data, self.opened = data, 0

    def __call__(self):
        self.opened += 1
        return io.BytesIO(self.data)


def fetch(cache, data, bucket=None):
    return cache.fetch(digest_of(data), len(data), bucket or Bucket(data))


def use_at(cache, data, at):
    os.utime(cache.find(digest_of(data)), (at, at))


def kept(cache, *pieces):
    return [cache.find(digest_of(piece)) is not None for piece in pieces]


def test_a_blob_is_brought_in_once(cache):
    bucket = Bucket()
    first, second = fetch(cache, DATA, bucket), fetch(cache, DATA, bucket)
    assert first == second
    assert first.read_bytes() == DATA
    assert (bucket.opened, cache.size_bytes(), cache.temporary_bytes()) == (1, len(DATA), 0)


def test_a_file_that_rotted_is_fetched_again(cache):
    bucket = Bucket()
    path = fetch(cache, DATA, bucket)
    path.write_bytes(b"x" + DATA[1:])
    assert fetch(cache, DATA, bucket).read_bytes() == DATA
    assert bucket.opened == 2


def test_what_does_not_verify_does_not_enter(cache):
    def corrupt():
        class Stream(io.BytesIO):
            def read(self, *_):
                raise CorruptBlob("not these bytes")

        return Stream()

    with pytest.raises(CorruptBlob):
        cache.fetch(DIGEST, len(DATA), corrupt)
    assert (kept(cache, DATA), cache.temporary_bytes()) == ([False], 0)


def test_the_least_recently_used_go_first(tmp_path):
    one, two, three, four = (bytes([number]) * 1000 for number in range(4))
    cache = ReadCache(tmp_path / "cache", 3000)
    for at, data in enumerate((one, two, three), 1_000_000):
        fetch(cache, data)
        use_at(cache, data, at)
    fetch(cache, one)  # used now
    fetch(cache, four)
    assert kept(cache, one, two, three, four) == [True, False, True, True]
    assert cache.size_bytes() == 3000


def test_what_is_larger_than_the_limit_stays_until_the_next_comes(tmp_path):
    cache = ReadCache(tmp_path / "cache", 10)
    path = fetch(cache, DATA)
    assert path.read_bytes() == DATA
    fetch(cache, b"small")
    assert kept(cache, DATA, b"small") == [False, True]


def test_a_reader_keeps_what_is_thrown_out(cache):
    with fetch(cache, DATA).open("rb") as file:
        cache.drop(DIGEST)
        assert file.read() == DATA


def test_room_is_made_before_a_file_comes(cache, monkeypatch):
    one, two = b"1" * 1000, b"2" * 1000
    for at, data in enumerate((one, two), 1_000_000):
        fetch(cache, data)
        use_at(cache, data, at)
    disk = namedtuple("Disk", "free")
    monkeypatch.setattr(read_cache.shutil, "disk_usage", lambda _: disk(1500 if not kept(cache, one)[0] else 500))
    fetch(cache, b"3" * 1200)
    assert kept(cache, one, two) == [False, True]


def test_a_disk_that_is_full_leaves_nothing(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(read_cache.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        fetch(cache, DATA)
    assert (kept(cache, DATA), cache.temporary_bytes()) == ([False], 0)


def test_a_sweep_removes_what_the_store_no_longer_holds_and_what_the_dead_left(cache):
    fetch(cache, DATA)
    fetch(cache, b"purged")
    with cache.temporary() as file:
        file.write(b"abc")
        file.flush()
        os.link(file.name, cache.folder / "tmp" / "left")
    assert cache.sweep(3600, lambda digest: digest == DIGEST) == 1
    assert kept(cache, DATA, b"purged") == [True, False]
    os.utime(cache.folder / "tmp" / "left", (0, 0))
    assert cache.sweep(3600, lambda _: True) == 1
    assert cache.temporary_bytes() == 0


def test_threads_that_want_the_same_blob_bring_it_once(cache):
    bucket, start, found = Bucket(), threading.Barrier(8), []

    def want():
        start.wait()
        found.append(fetch(cache, DATA, bucket).read_bytes() == DATA)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, bucket.opened) == ([True] * 8, 1)


WANTING = """
import io, os, random, sys
from pathlib import Path
from records.read_cache import ReadCache
cache, source = ReadCache(Path(sys.argv[1]), int(sys.argv[2])), Path(sys.argv[3])
def opened(path):
    with (source / "opened").open("ab") as file: file.write(b"x")
    return path.open("rb")
chance = random.Random(int(sys.argv[4]))
names = sorted(path.name for path in source.iterdir() if path.name != "opened")
for _ in range(20):
    name = chance.choice(names)
    path = cache.fetch("sha256:" + name, 3000, lambda: opened(source / name))
    try: data = path.read_bytes()
    except FileNotFoundError: continue  # thrown out by another: allowed after fetch
    assert data == (source / name).read_bytes()
"""


@pytest.mark.parametrize("limit_bytes", [1 << 30, 6000], ids=["roomy", "crowded"])
def test_processes_share_it(tmp_path, limit_bytes):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(5):
        data = bytes([number]) * 3000
        (source / hashlib.sha256(data).hexdigest()).write_bytes(data)
    arguments = [str(tmp_path / "cache"), str(limit_bytes), str(source)]
    running = [subprocess.Popen([sys.executable, "-c", WANTING, *arguments, str(seed)]) for seed in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    cache = ReadCache(tmp_path / "cache", limit_bytes)
    assert cache.size_bytes() <= max(limit_bytes, 3000)
    assert cache.temporary_bytes() == 0
    if limit_bytes > 15_000:
        assert len((source / "opened").read_bytes()) == 5  # each once, whoever came first


def test_a_process_that_dies_in_the_middle_leaves_no_entry(tmp_path, cache):
    script = (
        "import io, os, sys; from pathlib import Path; from records.read_cache import ReadCache\n"
        "class Dying(io.BytesIO):\n"
        "    def read(self, *_):\n"
        "        os.kill(os.getpid(), 9)\n"
        f"ReadCache(Path(sys.argv[1]), 1 << 30).fetch({DIGEST!r}, 3, Dying)"
    )
    assert subprocess.run([sys.executable, "-c", script, cache.folder]).returncode == -9
    assert kept(cache, DATA) == [False]
    assert len(list((cache.folder / "tmp").iterdir())) == 1
    assert fetch(cache, DATA).read_bytes() == DATA  # its lock died with it
