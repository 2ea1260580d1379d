"""Where bytes live: immutable blobs, named by their SHA-256, never overwritten.

A blob is written to a temporary file on the same file system, synced, and only then linked under its
digest; the folder is synced after that. A crash at any point leaves a temporary file to sweep, never a blob
with missing bytes. Reading checks the digest again: a byte that changed on the disk is found before its
blob is handed out to the end.

Layout under the root:  blobs/sha256/ab/<64 hex>   notes/<name>   tmp/<random>   lock
"""

import contextlib
import fcntl
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from records.blobs import (
    CANNOT_LINK,
    FILE_MODE,
    FOLDER_MODE,
    Blob,
    BlobMissing,
    BlobWriter,
    CorruptBlob,
    HashingWriter,
    Store,
    StoreAway,
    StoreFull,
    StoreRefused,
    Usage,
    VerifyingReader,
    check_size,
    disk_in_words,
    missing,
    note_name,
    read_to_the_end,
    whole_folder,
)
from records.manifest import CHUNK_BYTES, Manifest, digest_hex

__all__ = [
    "Blob",
    "BlobMissing",
    "BlobWriter",
    "CorruptBlob",
    "FolderStore",
    "Store",
    "StoreAway",
    "StoreFull",
    "StoreRefused",
    "Usage",
]

LOCK = "lock"


class FolderStore:
    """A Store in a local folder, safe for any number of processes on one host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._temporary = root / "tmp"
        self._notes = root / "notes"
        for folder in (root, self._blobs.parent, self._blobs, self._temporary, self._notes):
            if not folder.is_dir():
                folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
                _sync_folder(folder.parent)

    def put_bytes(self, data: bytes) -> Blob:
        with self.writer() as sink:
            sink.write(data)
        return sink.blob

    def put_file(self, path: Path) -> Blob:
        """Copy a file in. The digest is of the bytes written, so a source that changes meanwhile does no
        harm.
        """
        with path.open("rb") as source, self.writer() as sink:
            shutil.copyfileobj(source, sink, CHUNK_BYTES)
        return sink.blob

    @contextmanager
    def writer(self) -> Iterator[HashingWriter]:
        """Stream a blob in, hashed as it is written. An error in the block leaves nothing behind."""
        with disk_in_words():
            descriptor, name = tempfile.mkstemp(dir=self._temporary)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    sink = HashingWriter(file)
                    yield sink
                    file.flush()
                    os.fchmod(file.fileno(), FILE_MODE)
                    os.fsync(file.fileno())
                sink.finished = self._publish(temporary, sink.hasher.hexdigest(), sink.size_bytes)
            finally:
                temporary.unlink(missing_ok=True)

    def _publish(self, temporary: Path, hex_digest: str, size_bytes: int) -> Blob:
        final = self._blobs / hex_digest[:2] / hex_digest
        digest = "sha256:" + hex_digest
        self._make_shard(final.parent)
        # A blob that was there already may have rotted; the promise is about these bytes, so look and mend.
        if not self._link(temporary, final) and not self._intact(digest):
            temporary.replace(final)
        _sync_folder(final.parent)
        return Blob(digest, size_bytes)

    def _link(self, temporary: Path, final: Path) -> bool:
        with self._locked(fcntl.LOCK_SH):
            try:
                os.link(temporary, final)
            except FileExistsError:
                os.utime(final)  # young again: a collector that saw it as old must not take it from us
                return False
        return True

    def _make_shard(self, shard: Path) -> None:
        with contextlib.suppress(FileExistsError):
            shard.mkdir(mode=FOLDER_MODE)
            _sync_folder(shard.parent)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Shared while a blob is linked, exclusive while one is deleted, so that no put returns a blob just
        gone.
        """
        descriptor = os.open(self.root / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def open(self, digest: str) -> BinaryIO:
        """A stream that is hashed as it is read: CorruptBlob is raised in place of the last bytes if they
        differ.

        What was read before the end is not yet proven. Act on it only once the stream is exhausted.
        """
        path = self.path(digest)
        try:
            file = io.FileIO(path)
        except FileNotFoundError:
            raise missing(digest) from None
        return io.BufferedReader(VerifyingReader(file, os.fstat(file.fileno()).st_size, digest), CHUNK_BYTES)

    def read_bytes(self, digest: str) -> bytes:
        """The whole blob, verified. For small ones: manifests, reports."""
        with self.open(digest) as file:
            return file.read()

    def verify(self, digest: str) -> Blob:
        """Read all of it. BlobMissing or CorruptBlob, or the blob."""
        with self.open(digest) as file:
            return read_to_the_end(file, digest)

    def _intact(self, digest: str) -> bool:
        try:
            self.verify(digest)
        except (BlobMissing, CorruptBlob):
            return False
        return True

    def path(self, digest: str) -> Path:
        """The local file, not verified and only to be read. BlobMissing if there is none."""
        path = self._place(digest)
        if not path.is_file():
            raise missing(digest)
        return path

    def _place(self, digest: str) -> Path:
        name = digest_hex(digest)
        return self._blobs / name[:2] / name

    def exists(self, digest: str) -> bool:
        return self._place(digest).is_file()

    def fingerprint(self, digest: str) -> str:
        """The file as it lies on the disk now: inode, size and time of change."""
        found = self.path(digest).stat()
        return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"

    def read_range(self, digest: str, begin: int, end: int, fingerprint: str) -> Iterator[bytes]:  # noqa: ARG002
        """Bytes [begin, end), not verified: do that before."""
        return _pieces(self.path(digest), begin, end)

    def signed_url(self, digest: str, name: str, media_type: str) -> None:
        """A folder hands out nothing by itself."""

    def materialise(self, manifest: Manifest, folder: Path) -> None:
        """Lay a version's files out under `folder`, all or nothing, each verified; hard links where that is
        possible.

        The folder must be absent or empty, else FileExistsError. Its files share their bytes with the
        store: read them, never write into them.
        """
        with whole_folder(folder) as building:
            for entry in manifest.entries:
                self._lay_out(entry.digest, entry.size_bytes, building / entry.path)

    def _lay_out(self, digest: str, size_bytes: int, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.path(digest), target)
        except OSError as error:
            if error.errno not in CANNOT_LINK:
                raise
            found_bytes = self._copy_out(digest, target)
        else:
            found_bytes = self.verify(digest).size_bytes
        check_size(digest, found_bytes, size_bytes)

    def _copy_out(self, digest: str, target: Path) -> int:
        with self.open(digest) as source, target.open("xb") as sink:
            shutil.copyfileobj(source, sink, CHUNK_BYTES)
            os.fchmod(sink.fileno(), FILE_MODE)
            return sink.tell()

    def delete(self, digest: str, *, older_than_seconds: float = 0.0) -> bool:
        """Remove a blob; False if it is not there or was put more recently than that.

        Hard links made by `materialise` keep the bytes alive until they are removed too.
        """
        path = self._place(digest)
        with self._locked(fcntl.LOCK_EX):
            if not path.is_file() or not _is_older(path, older_than_seconds, self._now()):
                return False
            path.unlink()
            _sync_folder(path.parent)
        return True

    def iter_digests(self, *, older_than_seconds: float = 0.0) -> Iterator[str]:
        """Every blob put at least that long ago, in no order."""
        now = self._now()
        for path in self._files():
            if _is_older(path, older_than_seconds, now):
                yield "sha256:" + path.name

    def iter_shard(self, shard: str, *, older_than_seconds: float = 0.0) -> Iterator[Blob]:
        """The blobs whose names begin with these two digits, put at least that long ago, in no order."""
        now = self._now()
        for path in (self._blobs / shard).glob("[0-9a-f]" * 64):
            if _is_older(path, older_than_seconds, now):
                yield Blob("sha256:" + path.name, _size_bytes(path))

    def put_note(self, name: str, data: bytes) -> None:
        """Whole or not at all."""
        with disk_in_words():
            descriptor, draft = tempfile.mkstemp(dir=self._temporary)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).replace(self._notes / note_name(name))
            _sync_folder(self._notes)

    def note(self, name: str) -> bytes | None:
        try:
            return (self._notes / note_name(name)).read_bytes()
        except FileNotFoundError:
            return None

    def note_names(self, prefix: str) -> Iterator[str]:
        """In no order."""
        yield from (entry.name for entry in os.scandir(self._notes) if entry.name.startswith(prefix))

    def _files(self) -> Iterator[Path]:
        return self._blobs.glob("[0-9a-f][0-9a-f]/" + "[0-9a-f]" * 64)

    def usage(self) -> Usage:
        sizes_bytes = [_size_bytes(path) for path in self._files()]
        temporary_bytes = sum(_size_bytes(path) for path in self._temporary.iterdir())
        return Usage(len(sizes_bytes), sum(sizes_bytes), temporary_bytes, shutil.disk_usage(self.root).free)

    def sweep_temporary(self, older_than_seconds: float) -> int:
        """Remove what crashed writers left; the age must be longer than any write takes. Returns how many."""
        removed, now = 0, self._now()
        for path in list(self._temporary.iterdir()):
            if _is_older(path, older_than_seconds, now):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _now(self) -> float:
        """By the clock that stamps the files here. This process's own may be another host's, and wrong: then what
        somebody is writing at this moment would be old. Needs no room on the disk.
        """
        lock = self.root / LOCK
        lock.touch(mode=0o600)
        return lock.stat().st_mtime

    def sweep_cache(self) -> None:
        """A folder is its own cache."""

    def check(self) -> None:
        """Begins a write and gives up before its end."""
        with contextlib.suppress(_GiveUp), self.writer() as sink:
            sink.write(b"ready?")
            raise _GiveUp

    def close(self) -> None:
        """There is nothing to close."""


class _GiveUp(Exception):
    pass


def _is_older(path: Path, seconds: float, now: float) -> bool:
    """False for a file that vanished meanwhile: somebody else dealt with it. No limit is no limit."""
    try:
        age_seconds = now - path.stat().st_mtime
    except FileNotFoundError:
        return False
    return seconds <= 0 or age_seconds >= seconds


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pieces(path: Path, begin: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(begin)
        while begin < end and (chunk := file.read(min(CHUNK_BYTES, end - begin))):
            begin += len(chunk)
            yield chunk
