"""Putting one blob under its name: in one call, or in parts of bounded memory, and never half.

The name is the digest of the bytes, so they must be known whole before: what is uploaded is a file on this host or
bytes in memory, and no temporary object is ever copied to its name. Every call states the SHA-256 of what it carries,
which the store compares. Until the last call nothing is visible under the name; parts left by a process that died are
found by `ObjectStore.sweep_temporary`.
"""

import base64
import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from records.blobs import StoreAway
from records.errors import LetheError
from records.s3 import S3, Absent, ConditionFailed, Head, NotImplementedThere

log = structlog.get_logger()

PART_BYTES = 16 * 2**20
MOST_PARTS = 10_000  # S3's own limit
PARALLEL_PARTS = 4  # each holds one part in memory
MOST_COPIED_BYTES = 5 * 2**30  # S3 copies no larger object in one call


@dataclass(frozen=True)
class Source:
    """Bytes that can be read again: `read(begin, end)`."""

    size_bytes: int
    hex_digest: str
    read: Callable[[int, int], bytes]


def of_bytes(data: bytes) -> Source:
    return Source(len(data), hashlib.sha256(data).hexdigest(), lambda begin, end: data[begin:end])


@contextlib.contextmanager
def of_file(path: Path, size_bytes: int, hex_digest: str) -> Iterator[Source]:
    """A file whose digest is known already."""
    with path.open("rb") as file:
        yield Source(size_bytes, hex_digest, lambda begin, end: os.pread(file.fileno(), end - begin, begin))


def put(s3: S3, key: str, source: Source) -> None:
    """Put the bytes under their name. What is there and right becomes young again; what is there and wrong is mended.

    Another process that puts the same bytes at the same time does no harm.
    """
    try:
        _put(s3, key, source)
    except (Absent, ConditionFailed, NotImplementedThere) as error:
        raise StoreAway(
            f"The object store broke off an upload ({type(error).__name__}), so nothing was stored. Try again; if it "
            "stays, the store does not know uploads in parts with SHA-256, or something else ends them."
        ) from None


def _put(s3: S3, key: str, source: Source) -> None:
    present = s3.head(key)
    if present is not None and holds(present, source) and _touch(s3, key, present):
        return
    if present is not None or not s3.conditional_put:
        _send(s3, key, source, {})
        return
    try:
        _send(s3, key, source, {"IfNoneMatch": "*"})
    except ConditionFailed:
        _after_a_race(s3, key, source)
    except NotImplementedThere:
        s3.conditional_put = False
        log.warning("store.no_conditional_put", meaning="equal bytes may be written twice, which does no harm")
        _send(s3, key, source, {})


def holds(present: Head, source: Source) -> bool:
    """Whether the store has checked, when the object was written, that its bytes are these."""
    if present.checksum is None or present.size_bytes != source.size_bytes:
        return False
    stated = present.checksum.partition("-")[0]  # of an object in parts: the digest of digests, and their number
    return stated == _base64(bytes.fromhex(source.hex_digest)) or stated == _of_parts(source)


def part_bytes(size_bytes: int) -> int:
    """Of every part but the last."""
    return max(PART_BYTES, -(-size_bytes // MOST_PARTS))


def _after_a_race(s3: S3, key: str, source: Source) -> None:
    """Somebody else put the blob just now. Theirs counts if it is whole; if it is gone again, ours is sent."""
    present = s3.head(key)
    if present is None or present.size_bytes != source.size_bytes:
        _send(s3, key, source, {})


def _touch(s3: S3, key: str, present: Head) -> bool:
    """Make the object young, so that a collector that saw it as old does not take it from us; False if that fails."""
    if present.size_bytes > MOST_COPIED_BYTES:
        return False
    itself = {"Bucket": s3.bucket, "Key": key}
    try:
        s3.call("copy_object", Key=key, CopySource=itself, MetadataDirective="REPLACE", ChecksumAlgorithm="SHA256")
    except (LetheError, Absent, ConditionFailed, NotImplementedThere):
        return False
    return True


def _send(s3: S3, key: str, source: Source, conditions: dict[str, str]) -> None:
    if source.size_bytes > PART_BYTES:
        _send_parts(s3, key, source, conditions)
        return
    checksum = _base64(bytes.fromhex(source.hex_digest))
    s3.call("put_object", Key=key, Body=source.read(0, source.size_bytes), ChecksumSHA256=checksum, **conditions)


def _send_parts(s3: S3, key: str, source: Source, conditions: dict[str, str]) -> None:
    upload = {"Key": key, "UploadId": _begin(s3, key)}
    try:
        with ThreadPoolExecutor(PARALLEL_PARTS, thread_name_prefix="upload") as threads:
            parts = list(threads.map(lambda at: _send_part(s3, upload, source, at), _places(source)))
        _complete(s3, upload, parts, source, conditions)
    except BaseException:
        with contextlib.suppress(LetheError, Absent):  # the sweep finds what cannot be given up now
            s3.call("abort_multipart_upload", **upload)
        raise


def _begin(s3: S3, key: str) -> str:
    return str(s3.call("create_multipart_upload", Key=key, ChecksumAlgorithm="SHA256")["UploadId"])


def _send_part(s3: S3, upload: dict[str, str], source: Source, at: tuple[int, int, int]) -> dict[str, Any]:
    number, begin, end = at
    data = source.read(begin, end)
    checksum = _base64(hashlib.sha256(data).digest())
    sent = s3.call("upload_part", **upload, PartNumber=number, Body=data, ChecksumSHA256=checksum)
    return {"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum}


def _complete(
    s3: S3, upload: dict[str, str], parts: list[dict[str, Any]], source: Source, conditions: dict[str, str]
) -> None:
    """An answer that was lost is asked for again, and the upload is then unknown: the object tells how it went."""
    try:
        s3.call("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts}, **conditions)
    except Absent:
        present = s3.head(upload["Key"])
        if present is None or present.size_bytes != source.size_bytes:
            raise


def _places(source: Source) -> Iterator[tuple[int, int, int]]:
    """(number from 1, begin, end) of every part."""
    step = part_bytes(source.size_bytes)
    for number, begin in enumerate(range(0, source.size_bytes, step), 1):
        yield number, begin, min(begin + step, source.size_bytes)


def _of_parts(source: Source) -> str:
    """The checksum that a store states for an object in parts: SHA-256 over the parts' SHA-256s."""
    digests = (hashlib.sha256(source.read(begin, end)).digest() for _, begin, end in _places(source))
    return _base64(hashlib.sha256(b"".join(digests)).digest())


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
