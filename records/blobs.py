"""Immutable blobs, named by their SHA-256: what every store of them promises, and what they share to keep it.

`records/store.py` keeps them in a folder, `records/object_store.py` in a bucket.
"""

import errno
import hashlib
import io
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from records.errors import LetheError
from records.manifest import CHUNK_BYTES, Manifest

FILE_MODE = 0o644  # safetensors writes 0600, which a web server under another user could not read
FOLDER_MODE = 0o700
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TAKES_NOTHING = (errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOTCONN)  # broken, read-only, a mount that is gone
CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
DISK_FULL = "The store's disk is full, so nothing was stored; free some space and try again."


class BlobMissing(LetheError):
    code = "blob_missing"
    status = 500


class CorruptBlob(LetheError):
    code = "blob_corrupt"
    status = 500


class StoreFull(LetheError):
    code = "store_full"
    status = 507


class StoreAway(LetheError):
    """The store does not answer, or not for now. The same call may succeed later."""

    code = "store_away"
    status = 503


class StoreRefused(LetheError):
    """The store answers and will not do it: credentials, rights, the bucket. Only an operator can change that."""

    code = "store_refused"
    status = 500


@dataclass(frozen=True, slots=True)
class Blob:
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """`temporary_bytes`: of writes that have not ended; `free_bytes` None: the store does not say."""

    blobs: int
    size_bytes: int
    temporary_bytes: int
    free_bytes: int | None


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
    StoreFull for a full disk, StoreAway for one that takes nothing; of a store on another host also
    StoreRefused.
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
    def fingerprint(self, digest: str) -> str:
        """Another string once the bytes were written anew: what was verified under this one is still so."""

    def read_range(self, digest: str, begin: int, end: int, fingerprint: str) -> Iterator[bytes]:
        """Bytes [begin, end), not verified: read the blob under this fingerprint before."""

    def signed_url(self, digest: str, name: str, media_type: str) -> str | None:
        """Where anybody may read the blob for a short time, saved under `name`; None if there is no such place."""

    def delete(self, digest: str, *, older_than_seconds: float = 0.0) -> bool: ...
    def iter_digests(self, *, older_than_seconds: float = 0.0) -> Iterator[str]: ...
    def iter_shard(self, shard: str, *, older_than_seconds: float = 0.0) -> Iterator[Blob]:
        """The blobs whose names begin with these two hexadecimal digits, put at least that long ago."""

    def put_note(self, name: str, data: bytes) -> None:
        """A small fact that must outlive the database, durable when this returns; takes the place of one before."""

    def note(self, name: str) -> bytes | None: ...
    def note_names(self, prefix: str) -> Iterator[str]: ...
    def sweep_cache(self) -> None:
        """Throw out what this host keeps of a blob that the store no longer has; once an hour, however often asked."""

    def usage(self) -> Usage: ...
    def sweep_temporary(self, older_than_seconds: float) -> int: ...
    def check(self) -> None:
        """Raises what would stand in the way of a put now. Leaves no blob."""

    def close(self) -> None: ...


class HashingWriter:
    """Writes into a file and hashes on the way. `finished` is set by the store that made it."""

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


class Raw(Protocol):
    """Bytes as they lie somewhere: `readinto` as io.RawIOBase has it."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...
    def close(self) -> None: ...


class VerifyingReader(io.RawIOBase):
    """A stream of `size_bytes` that refuses to deliver its last bytes unless all of them have the digest."""

    def __init__(self, source: Raw, size_bytes: int, digest: str) -> None:
        self._source = source
        self._digest = digest
        self._hasher = hashlib.sha256()
        self._left_bytes = size_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's buffer has no slices
        count = self._source.readinto(buffer) or 0
        self._hasher.update(memoryview(buffer)[:count])
        self._left_bytes -= count
        at_end = count == 0 or self._left_bytes <= 0
        if at_end and "sha256:" + self._hasher.hexdigest() != self._digest:
            raise CorruptBlob(f"Blob {self._digest} does not match its digest; restore it from a copy.")
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


def note_name(name: str) -> str:
    """The name again. ValueError unless it may be a file's."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise ValueError("The name of a note is letters, digits, dots and dashes, 200 at most.")
    return name


def missing(digest: str) -> BlobMissing:
    """The refusal for a blob that is not there."""
    return BlobMissing(f"The store holds no blob {digest}; restore it from a copy or import it again.")


@contextmanager
def disk_in_words(full: str = DISK_FULL) -> Iterator[None]:
    """StoreFull, with the sentence `full`, for the errors by which a system says that a disk is full; StoreAway for
    those of one that takes nothing.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StoreFull(full) from None
        if error.errno in TAKES_NOTHING:
            name = errno.errorcode[error.errno]
            raise StoreAway(f"A disk of this host takes nothing ({name}). Look at it and its mount.") from error
        raise


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to build in, which becomes `folder` at the end of the block, or is gone after an error in it.

    FileExistsError unless `folder` is absent or empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError("The folder for the version's files is not empty; give a new or an empty one.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with disk_in_words():
            yield building
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def read_to_the_end(file: BinaryIO, digest: str) -> Blob:
    """Of a stream that verifies itself: CorruptBlob, or the blob."""
    size_bytes = 0
    while chunk := file.read(CHUNK_BYTES):
        size_bytes += len(chunk)
    return Blob(digest, size_bytes)


def check_size(digest: str, found_bytes: int, size_bytes: int) -> None:
    """CorruptBlob where a manifest states another size."""
    if found_bytes != size_bytes:
        raise CorruptBlob(f"Blob {digest} has {found_bytes} bytes and its manifest says {size_bytes}.")
