"""Blobs in a bucket, under the names that a folder gives them, with a cache of verified weights on this host.

What a folder promises holds here too. A blob becomes visible in one step, whole, and only under the digest of its
bytes; a stream compares the digest before its last bytes go out; a connection that breaks is taken up where it broke.

Two things differ. Between a collector's look at a blob's age and its delete another host may put the same bytes again,
which in a folder a lock forbids; and the age of a blob in parts counts from the beginning of its upload. A collector's
grace must be longer than any job.

Layout under the prefix:  blobs/sha256/ab/<64 hex>   notes/<name>   probe/<random>
"""

import contextlib
import io
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import structlog

from records.blobs import (
    CANNOT_LINK,
    FILE_MODE,
    Blob,
    BlobWriter,
    HashingWriter,
    Usage,
    VerifyingReader,
    check_size,
    disk_in_words,
    missing,
    note_name,
    read_to_the_end,
    whole_folder,
)
from records.errors import LetheError
from records.manifest import CHUNK_BYTES, Entry, Manifest, digest_hex
from records.read_cache import ReadCache
from records.s3 import S3, Absent, Head, NotImplementedThere, age_seconds
from records.s3_bodies import ResumingBody
from records.s3_upload import Source, of_bytes, of_file, put

log = structlog.get_logger()

PARALLEL_FILES = 4
CHECK_SECONDS = 10.0
CACHE_SWEEP_SECONDS = 3600.0
LONGEST_WRITE_SECONDS = 24 * 3600.0
CACHE_FULL = (
    "The disk of LETHE_STORE_CACHE_DIR is full, so nothing was stored. Free some space there, or set it to a folder on "
    "a larger disk."
)
_NAME = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})")


class ObjectStore:
    """A Store in a bucket, safe for any number of processes on any number of hosts."""

    def __init__(self, s3: S3, cache: ReadCache, presign_seconds: int | None = None) -> None:
        """`presign_seconds`: how long a signed link is good; None signs none."""
        self.s3, self.cache, self._presign_seconds = s3, cache, presign_seconds
        self._blobs = f"{s3.prefix}blobs/sha256/"
        self._notes = f"{s3.prefix}notes/"
        self._check_at = 0.0

    def put_bytes(self, data: bytes) -> Blob:
        """Straight from memory: for small blobs."""
        return self._put(of_bytes(data))

    def put_file(self, path: Path) -> Blob:
        """Copy a file in. It is copied to the cache first: the digest is of the bytes uploaded, whatever happens to the
        source meanwhile, and the next job on this host finds them there.
        """
        self.sweep_cache()
        self.cache.make_room(path.stat().st_size)
        with path.open("rb") as source, self._spooled(keeps=True) as sink:
            shutil.copyfileobj(source, sink, CHUNK_BYTES)
        return sink.blob

    @contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """Stream a blob in by way of this host's disk, since its name is known at its end only. An error in the block
        leaves nothing behind.
        """
        with self._spooled(keeps=False) as sink:
            yield sink

    @contextmanager
    def _spooled(self, keeps: bool) -> Iterator[HashingWriter]:
        with disk_in_words(CACHE_FULL), self.cache.temporary() as file:
            sink = HashingWriter(file)
            yield sink
            file.flush()
            path = Path(file.name)
            with of_file(path, sink.size_bytes, sink.hasher.hexdigest()) as source:
                blob = self._put(source)
            if keeps:
                with contextlib.suppress(OSError):  # it is stored; a cache that does not take it costs time only
                    self.cache.adopt(path, blob.digest)
            sink.finished = blob

    def _put(self, source: Source) -> Blob:
        digest = "sha256:" + source.hex_digest
        put(self.s3, self._key(digest), source)
        return Blob(digest, source.size_bytes)

    def open(self, digest: str) -> BinaryIO:
        """A stream that is hashed as it is read: CorruptBlob is raised in place of the last bytes if they differ.

        What was read before the end is not yet proven. Act on it only once the stream is exhausted.
        """
        try:
            answer = self.s3.call("get_object", Key=self._key(digest))
        except Absent:
            raise missing(digest) from None
        size_bytes = answer["ContentLength"]
        body = ResumingBody(self.s3, self._key(digest), (0, size_bytes), answer["Body"])
        return io.BufferedReader(VerifyingReader(body, size_bytes, digest), CHUNK_BYTES)

    def read_bytes(self, digest: str) -> bytes:
        """The whole blob, verified. For small ones: manifests, reports."""
        with self.open(digest) as file:
            return file.read()

    def verify(self, digest: str) -> Blob:
        """Read all of it from the bucket. BlobMissing or CorruptBlob, or the blob."""
        with self.open(digest) as file:
            return read_to_the_end(file, digest)

    def path(self, digest: str) -> Path:
        """A verified local file, only to be read and soon: others may throw it out of the cache."""
        head = self._head(digest)
        with disk_in_words(CACHE_FULL):
            return self.cache.fetch(digest, head.size_bytes, lambda: self.open(digest))

    def exists(self, digest: str) -> bool:
        return self.s3.head(self._key(digest)) is not None

    def fingerprint(self, digest: str) -> str:
        """The object's ETag: another one once it was written anew with other bytes."""
        return self._head(digest).etag

    def read_range(self, digest: str, begin: int, end: int, fingerprint: str) -> Iterator[bytes]:
        """Bytes [begin, end) of the object as it was under that fingerprint, not verified: do that before."""
        body = ResumingBody(self.s3, self._key(digest), (begin, end), etag=fingerprint)
        with io.BufferedReader(cast("Any", body), CHUNK_BYTES) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def signed_url(self, digest: str, name: str, media_type: str) -> str | None:
        """A link that opens this one blob until it expires, for whoever has it."""
        if self._presign_seconds is None:
            return None
        return self.s3.signed_url(self._key(digest), self._presign_seconds, name, media_type)

    def materialise(self, manifest: Manifest, folder: Path) -> None:
        """Lay a version's files out under `folder`, all or nothing, each verified; hard links into the cache where that
        is possible.

        The folder must be absent or empty, else FileExistsError. Its files may share their bytes with the cache: read
        them, never write into them.
        """
        with whole_folder(folder) as building, ThreadPoolExecutor(PARALLEL_FILES, "fetch") as threads:
            list(threads.map(lambda entry: self._lay_out(entry, building / entry.path), manifest.entries))
        self.sweep_cache()

    def sweep_cache(self) -> None:
        """Once an hour and host: a sweeper elsewhere cannot see that this host still keeps what was purged."""
        try:
            if self.cache.is_due(CACHE_SWEEP_SECONDS):
                self.cache.sweep(LONGEST_WRITE_SECONDS, self.exists)
        except (LetheError, OSError) as error:
            log.warning("store.cache_not_swept", error=type(error).__name__)

    def _lay_out(self, entry: Entry, target: Path) -> None:
        head = self._head(entry.digest)
        check_size(entry.digest, head.size_bytes, entry.size_bytes)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            kept = self.cache.fetch(entry.digest, head.size_bytes, lambda: self.open(entry.digest))
        except OSError as error:  # a cache that takes nothing makes it slower, not impossible
            log.warning("store.cache_refuses", error=type(error).__name__, errno=error.errno)
            self._copy_out(entry.digest, target)
            return
        try:
            os.link(kept, target)
        except OSError as error:
            if error.errno not in CANNOT_LINK and not isinstance(error, FileNotFoundError):
                raise
            self._copy_from_cache(kept, entry.digest, target)

    def _copy_from_cache(self, kept: Path, digest: str, target: Path) -> None:
        """Another file system; or another process has just thrown the file out."""
        try:
            shutil.copyfile(kept, target)
        except FileNotFoundError:
            self._copy_out(digest, target)

    def _copy_out(self, digest: str, target: Path) -> None:
        with self.open(digest) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, CHUNK_BYTES)
            os.fchmod(sink.fileno(), FILE_MODE)

    def delete(self, digest: str, *, older_than_seconds: float = 0.0) -> bool:
        """Remove a blob, here from the cache too; False if it is not there or was put more recently than that.

        Other hosts' caches throw it out when they are asked for it or swept. A bucket that keeps old versions keeps it.
        """
        head = self.s3.head(self._key(digest))
        if head is None:
            self.cache.drop(digest)
            return False
        if not _is_older(head.age_seconds, older_than_seconds):
            return False
        self.s3.call("delete_object", Key=self._key(digest))
        self.cache.drop(digest)
        return True

    def iter_digests(self, *, older_than_seconds: float = 0.0) -> Iterator[str]:
        """Every blob put at least that long ago, in order of names."""
        for name, _, age in self._listed(self._blobs):
            found = _NAME.fullmatch(name)
            if found and _is_older(age, older_than_seconds):
                yield "sha256:" + found[1]

    def iter_shard(self, shard: str, *, older_than_seconds: float = 0.0) -> Iterator[Blob]:
        """The blobs whose names begin with these two digits, put at least that long ago, in order of names."""
        for name, size_bytes, age in self._listed(f"{self._blobs}{shard}/"):
            if re.fullmatch(r"[0-9a-f]{64}", name) and _is_older(age, older_than_seconds):
                yield Blob("sha256:" + name, size_bytes)

    def put_note(self, name: str, data: bytes) -> None:
        self.s3.call("put_object", Key=f"{self._notes}{note_name(name)}", Body=data)

    def note(self, name: str) -> bytes | None:
        try:
            data: bytes = self.s3.call("get_object", Key=f"{self._notes}{note_name(name)}")["Body"].read()
        except Absent:
            return None
        return data

    def note_names(self, prefix: str) -> Iterator[str]:
        """In order."""
        yield from (prefix + rest for rest, _, _ in self._listed(f"{self._notes}{prefix}"))

    def usage(self) -> Usage:
        """Lists the whole bucket's prefix. `temporary_bytes` are this host's."""
        sizes_bytes = [size for name, size, _ in self._listed(self._blobs) if _NAME.fullmatch(name)]
        return Usage(len(sizes_bytes), sum(sizes_bytes), self.cache.temporary_bytes(), None)

    def sweep_temporary(self, older_than_seconds: float) -> int:
        """Remove what crashed writers left, and from this host's cache what the bucket no longer holds; the age must be
        longer than any upload takes. Returns how many. Asks once for every blob in the cache: for once an hour.
        """
        swept = self.cache.sweep(older_than_seconds, self.exists)
        for upload, age in self._unfinished():
            if _is_older(age, older_than_seconds):
                self._forget("abort_multipart_upload", **upload)
                swept += 1
        for name, _, age in self._listed(f"{self.s3.prefix}probe/"):
            if _is_older(age, older_than_seconds):
                self._forget("delete_object", Key=f"{self.s3.prefix}probe/{name}")
                swept += 1
        return swept

    def check(self) -> None:
        """Writes a small object, and gives up soon if it cannot. Once in ten seconds, however often it is asked."""
        if time.monotonic() >= self._check_at:
            self.s3.check()
            self._check_at = time.monotonic() + CHECK_SECONDS

    def close(self) -> None:
        self.s3.close()

    def _forget(self, operation: str, **arguments: Any) -> None:
        try:
            self.s3.call(operation, **arguments)
        except Absent:
            return  # another host swept it

    def _unfinished(self) -> Iterator[tuple[dict[str, str], float]]:
        """Uploads in parts that nobody has completed, and their ages."""
        marks: dict[str, str] = {}
        while True:
            try:
                page = self.s3.call("list_multipart_uploads", Prefix=self._blobs, **marks)
            except NotImplementedThere:  # a store that lists none must be told to expire them itself
                return
            for one in page.get("Uploads", ()):
                yield {"Key": one["Key"], "UploadId": one["UploadId"]}, age_seconds(page, one["Initiated"])
            if not page.get("IsTruncated"):
                return
            marks = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _listed(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        """(name below the prefix, size, age) of every object."""
        mark: dict[str, str] = {}
        while True:
            page = self.s3.call("list_objects_v2", Prefix=prefix, **mark)
            for one in page.get("Contents", ()):
                modified: datetime = one["LastModified"]
                yield one["Key"].removeprefix(prefix), one["Size"], age_seconds(page, modified)
            if not page.get("IsTruncated"):
                return
            mark = {"ContinuationToken": page["NextContinuationToken"]}

    def _head(self, digest: str) -> Head:
        head = self.s3.head(self._key(digest))
        if head is None:
            self.cache.drop(digest)
            raise missing(digest)
        return head

    def _key(self, digest: str) -> str:
        name = digest_hex(digest)
        return f"{self._blobs}{name[:2]}/{name}"


def _is_older(age_seconds: float, limit_seconds: float) -> bool:
    """Ages come in whole seconds, and clocks differ: no limit is no limit."""
    return limit_seconds <= 0 or age_seconds >= limit_seconds
