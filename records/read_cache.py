"""Verified weights on this host's disk, so that an object store is read once and not at every job.

A file enters under its digest after its bytes were compared with it, and is compared again whenever it is asked for:
one that rotted is thrown away and fetched anew. Any number of processes of one host share the folder. Two that want the
same blob wait for each other; whoever reads a file that another throws out keeps it until it is closed.

Layout:  sha256/ab/<64 hex>   tmp/<random>   locks/<64 hex>   lock   swept
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from records.blobs import FILE_MODE, FOLDER_MODE
from records.manifest import CHUNK_BYTES, digest_hex

log = structlog.get_logger()

OpenBlob = Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True, order=True)
class _Kept:
    used_at: float
    size_bytes: int
    path: Path


class ReadCache:
    """At most `limit_bytes` of blobs, the least recently used ones thrown out first. The newest stays in any case."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self._limit_bytes = folder, limit_bytes
        self._kept, self._temporary, self._locks = folder / "sha256", folder / "tmp", folder / "locks"
        for one in (folder, self._kept, self._temporary, self._locks):
            one.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def fetch(self, digest: str, size_bytes: int, open_blob: OpenBlob) -> Path:
        """The blob's file: kept already, or brought in. `open_blob` opens a stream that verifies itself.

        Raises OSError when the disk does not take it, and whatever the stream raises; nothing is kept then.
        """
        with self._locked(self._locks / digest_hex(digest)):
            found = self.find(digest)
            if found is not None:
                return found
            self.make_room(size_bytes)
            with self.temporary() as file:
                with open_blob() as source:
                    shutil.copyfileobj(source, file, CHUNK_BYTES)
                file.flush()
                return self.adopt(Path(file.name), digest)

    def find(self, digest: str) -> Path | None:
        """The blob's file if it is kept and whole; it counts as used now."""
        path = self._place(digest)
        try:
            with path.open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == path.name
            if whole:
                os.utime(path)
                return path
        except FileNotFoundError:
            return None
        log.warning("store.cache_rotten", blob=digest)
        path.unlink(missing_ok=True)
        return None

    def adopt(self, temporary: Path, digest: str) -> Path:
        """Keep a file of `temporary()` whose bytes were compared with the digest on their way in."""
        path = self._place(digest)
        path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        temporary.chmod(FILE_MODE)
        os.utime(temporary)
        temporary.replace(path)
        self._throw_out(path)
        return path

    @contextmanager
    def temporary(self) -> Iterator[BinaryIO]:
        """A file on the cache's disk; gone at the end of the block unless it was adopted."""
        with tempfile.NamedTemporaryFile(dir=self._temporary, delete=False) as file:
            try:
                yield file  # type: ignore[misc]  # it has all that BinaryIO has
            finally:
                Path(file.name).unlink(missing_ok=True)

    def make_room(self, size_bytes: int) -> None:
        """Throw out until the disk has that much free, or nothing is left to throw out."""
        for kept in self._oldest_first():
            if shutil.disk_usage(self.folder).free >= size_bytes:
                return
            kept.path.unlink(missing_ok=True)

    def drop(self, digest: str) -> None:
        """Keep it no longer."""
        self._place(digest).unlink(missing_ok=True)

    def sweep(self, older_than_seconds: float, exists: Callable[[str], bool]) -> int:
        """Remove what crashed writers left, and what the store itself no longer holds; returns how many."""
        useless = [*self._temporary.iterdir(), *self._locks.iterdir()]
        useless = [path for path in useless if _idle_seconds(path) >= older_than_seconds]
        useless += [kept.path for kept in self._oldest_first() if not exists("sha256:" + kept.path.name)]
        for path in useless:
            path.unlink(missing_ok=True)
        return sum(path.parent != self._locks for path in useless)

    def is_due(self, every_seconds: float) -> bool:
        """Whether the last sweep on this host was that long ago; whoever is told so sweeps."""
        stamp = self.folder / "swept"
        with self._locked(self.folder / "lock"):
            if stamp.exists() and _idle_seconds(stamp) < every_seconds:
                return False
            stamp.touch()
            return True

    def temporary_bytes(self) -> int:
        return sum(_size_bytes(path) for path in self._temporary.iterdir())

    def size_bytes(self) -> int:
        """Of the blobs kept."""
        return sum(kept.size_bytes for kept in self._oldest_first())

    def _throw_out(self, newest: Path) -> None:
        """Down to the limit. One process at a time does it; another that comes meanwhile leaves it at that."""
        with self._locked(self.folder / "lock"):
            oldest_first = self._oldest_first()
            excess_bytes = sum(kept.size_bytes for kept in oldest_first) - self._limit_bytes
            for kept in oldest_first:
                if excess_bytes <= 0:
                    return
                if kept.path != newest:
                    kept.path.unlink(missing_ok=True)
                    excess_bytes -= kept.size_bytes

    def _oldest_first(self) -> list[_Kept]:
        found = []
        for path in self._kept.glob("[0-9a-f][0-9a-f]/" + "[0-9a-f]" * 64):
            try:
                state = path.stat()
            except FileNotFoundError:
                continue
            found.append(_Kept(state.st_mtime, state.st_size, path))
        return sorted(found)

    def _place(self, digest: str) -> Path:
        name = digest_hex(digest)
        return self._kept / name[:2] / name

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """For this process's thread alone. A lock file that a sweep removed costs a fetch made twice, no more."""
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.utime(descriptor)
            yield
        finally:
            os.close(descriptor)


def _idle_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
