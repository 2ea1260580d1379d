"""Where bytes live: immutable blobs, named by their SHA-256, never overwritten.

A blob is written to a temporary file on the same file system, synced, and only then linked under its
digest; the folder is synced after that. A crash at any point leaves a temporary file to sweep, never a blob
with missing bytes. Reading checks the digest again: a byte that changed on the disk is found before its
blob is handed out to the end.

Layout under the root:  blobs/sha256/ab/<64 hex>   tmp/<random>   lock
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from records.errors import LetheError
from records.manifest import CHUNK_BYTES, Manifest, digest_hex

FILE_MODE = 0o644  # safetensors writes 0600, which a web server under another user could not read
FOLDER_MODE = 0o700
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)


class BlobMissing(LetheError):
    code = "blob_missing"
    status = 500


class CorruptBlob(LetheError):
    code = "blob_corrupt"
    status = 500


class StoreFull(LetheError):
    code = "store_full"
    status = 507


@dataclass(frozen=True, slots=True)
class Blob:
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    blobs: int
    size_bytes: int
    temporary_bytes: int
    free_bytes: int


class BlobWriter(Protocol):
    """Takes a stream. `blob` may be read once the `with` block of `Store.writer` has ended without an
    error.
    """

    def write(self, data: bytes, /) -> int: ...
    @property
    def blob(self) -> Blob: ...


class Store(Protocol):
    """Content-addressed blobs. Every digest is `sha256:<64 hex>`; DigestInvalid otherwise.

    When a `put` or a `writer` block returns, the bytes are durable and visible. Putting what is there
    already is a success. BlobMissing where a blob must exist, CorruptBlob where its bytes do not match,
    StoreFull for a full disk.
    """

    def put_bytes(self, data: bytes) -> Blob: ...
    def put_file(self, path: Path) -> Blob: ...
    def writer(self) -> AbstractContextManager[BlobWriter]: ...
    def open(self, digest: str) -> BinaryIO: ...
    def read_bytes(self, digest: str) -> bytes: ...
    def verify(self, digest: str) -> Blob: ...
    def path(self, digest: str) -> Path: ...
    def materialise(self, manifest: Manifest, folder: Path) -> None: ...
    def exists(self, digest: str) -> bool: ...
    def delete(self, digest: str, *, older_than_seconds: float = 0.0) -> bool: ...
    def iter_digests(self, *, older_than_seconds: float = 0.0) -> Iterator[str]: ...
    def usage(self) -> Usage: ...
    def sweep_temporary(self, older_than_seconds: float) -> int: ...


class FolderStore:
    """A Store in a local folder, safe for any number of processes on one host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs" / "sha256"
        self._temporary = root / "tmp"
        for folder in (root, self._blobs.parent, self._blobs, self._temporary):
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
            while chunk := source.read(CHUNK_BYTES):
                sink.write(chunk)
        return sink.blob

    @contextmanager
    def writer(self) -> Iterator["_FolderWriter"]:
        """Stream a blob in, hashed as it is written. An error in the block leaves nothing behind."""
        with _full_disk_in_words():
            descriptor, name = tempfile.mkstemp(dir=self._temporary)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    sink = _FolderWriter(file)
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
        descriptor = os.open(self.root / "lock", os.O_CREAT | os.O_RDWR, 0o600)
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
            return io.BufferedReader(_VerifyingFile(path, digest), CHUNK_BYTES)
        except FileNotFoundError:
            raise _missing(digest) from None

    def read_bytes(self, digest: str) -> bytes:
        """The whole blob, verified. For small ones: manifests, reports."""
        with self.open(digest) as file:
            return file.read()

    def verify(self, digest: str) -> Blob:
        """Read all of it. BlobMissing or CorruptBlob, or the blob."""
        size_bytes = 0
        with self.open(digest) as file:
            while chunk := file.read(CHUNK_BYTES):
                size_bytes += len(chunk)
        return Blob(digest, size_bytes)

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
            raise _missing(digest)
        return path

    def _place(self, digest: str) -> Path:
        name = digest_hex(digest)
        return self._blobs / name[:2] / name

    def exists(self, digest: str) -> bool:
        return self._place(digest).is_file()

    def materialise(self, manifest: Manifest, folder: Path) -> None:
        """Lay a version's files out under `folder`, all or nothing, each verified; hard links where that is
        possible.

        The folder must be absent or empty, else FileExistsError. Its files share their bytes with the
        store: read them, never write into them.
        """
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError("The folder for the version's files is not empty; give a new or an empty one.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            with _full_disk_in_words():
                for entry in manifest.entries:
                    self._lay_out(entry.digest, entry.size_bytes, building / entry.path)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)

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
        if found_bytes != size_bytes:
            raise CorruptBlob(f"Blob {digest} has {found_bytes} bytes and its manifest says {size_bytes}.")

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
            if not path.is_file() or not _is_older(path, older_than_seconds):
                return False
            path.unlink()
            _sync_folder(path.parent)
        return True

    def iter_digests(self, *, older_than_seconds: float = 0.0) -> Iterator[str]:
        """Every blob put at least that long ago, in no order."""
        for path in self._files():
            if _is_older(path, older_than_seconds):
                yield "sha256:" + path.name

    def _files(self) -> Iterator[Path]:
        return self._blobs.glob("[0-9a-f][0-9a-f]/" + "[0-9a-f]" * 64)

    def usage(self) -> Usage:
        sizes_bytes = [_size_bytes(path) for path in self._files()]
        temporary_bytes = sum(_size_bytes(path) for path in self._temporary.iterdir())
        return Usage(len(sizes_bytes), sum(sizes_bytes), temporary_bytes, shutil.disk_usage(self.root).free)

    def sweep_temporary(self, older_than_seconds: float) -> int:
        """Remove what crashed writers left; the age must be longer than any write takes. Returns how many."""
        removed = 0
        for path in list(self._temporary.iterdir()):
            if _is_older(path, older_than_seconds):
                path.unlink(missing_ok=True)
                removed += 1
        return removed


class _FolderWriter:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.hasher = hashlib.sha256()
        self.size_bytes = 0
        self.finished: Blob | None = None

    def write(self, data: bytes, /) -> int:
        self.hasher.update(data)
        self.size_bytes += len(data)
        return self.file.write(data)

    @property
    def blob(self) -> Blob:
        if self.finished is None:
            raise RuntimeError("A blob has its digest only after the 'with store.writer()' block has ended.")
        return self.finished


class _VerifyingFile(io.RawIOBase):
    """A file that refuses to deliver its last bytes unless all of them have the digest."""

    def __init__(self, path: Path, digest: str) -> None:
        self._file = io.FileIO(path)
        self._digest = digest
        self._hasher = hashlib.sha256()
        self._left_bytes = os.fstat(self._file.fileno()).st_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's buffer has no slices
        count = self._file.readinto(buffer) or 0
        self._hasher.update(memoryview(buffer)[:count])
        self._left_bytes -= count
        at_end = count == 0 or self._left_bytes <= 0
        if at_end and "sha256:" + self._hasher.hexdigest() != self._digest:
            raise CorruptBlob(f"Blob {self._digest} does not match its digest; restore it from a copy.")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _full_disk_in_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreFull("The store's disk is full, so nothing was stored; free some space and try again.") from None


def _missing(digest: str) -> BlobMissing:
    return BlobMissing(f"The store holds no blob {digest}; restore it from a copy or import it again.")


def _is_older(path: Path, seconds: float) -> bool:
    """False for a file that vanished meanwhile: somebody else dealt with it."""
    try:
        return time.time() - path.stat().st_mtime >= seconds
    except FileNotFoundError:
        return False


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
