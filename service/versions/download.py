"""Handing out one immutable file: conditional, in ranges, and never with a silently changed byte.

A store that can sign links (an object store with LETHE_STORE_PRESIGN) hands the bytes out itself: the answer is a 307
to it, whole or in ranges, and the reader compares the manifest's digest. HEAD and If-None-Match are answered here.

What protects the reader, beside the digest in every answer:
- A file of up to 16 MiB is read and verified before its first byte goes out, whole or in ranges. A changed one is a
  500.
- A larger file asked for as a whole is verified while it streams: its last bytes stay back until all of them have the
  right digest. If they have not, the connection breaks off short of Content-Length.
- A range of a larger file is sent once this process has verified the whole file as it lies in the store now (the same
  fingerprint); the first range of a file therefore waits for a reading of it, about a second a gigabyte on a disk.
"""

import base64
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Protocol

from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.datastructures import Headers

from records.manifest import CHUNK_BYTES, Entry, digest_hex
from records.store import CorruptBlob, Store
from service import problems
from service.problems import RangeNotSatisfiable
from service.versions.ranges import parse_range

VERIFY_FIRST_BYTES = 16 * 2**20


class Verified(Protocol):
    """Remembers which files were whole when last read, by digest. A dict does."""

    def get(self, key: str, /) -> str | None: ...
    def __setitem__(self, key: str, value: str, /) -> None: ...


def answer(request: Request, store: Store, entry: Entry, verified: Verified) -> Response:
    """200, 206, 304, 307 or 416 for GET; HEAD without the body, never 307. CorruptBlob comes before the first byte."""
    headers = _headers(entry)
    if _unchanged(request.headers, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    try:
        wanted = _wanted(request.headers, headers["ETag"], entry.size_bytes)
    except RangeNotSatisfiable as error:
        outside = {"Content-Range": f"bytes */{entry.size_bytes}"}
        return problems.problem(request.scope, error.status, error.code, error.detail, headers=outside)
    begin, end = wanted or (0, entry.size_bytes)
    headers["Content-Length"] = str(end - begin)
    if wanted:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{entry.size_bytes}"
    status = 206 if wanted else 200
    if request.method == "HEAD":
        store.fingerprint(entry.digest)  # BlobMissing rather than a promise that GET cannot keep
        return Response(status_code=status, headers=headers, media_type=_media_type(entry.path))
    elsewhere = store.signed_url(entry.digest, PurePosixPath(entry.path).name, _media_type(entry.path))
    if elsewhere is not None:
        return RedirectResponse(elsewhere, 307, {"Cache-Control": "no-store"})  # it expires, unlike the file
    body = _body(store, entry, wanted, verified)
    return StreamingResponse(body, status, headers, _media_type(entry.path))


def _wanted(given: Headers, etag: str, size_bytes: int) -> tuple[int, int] | None:
    condition = given.get("if-range")
    if condition is not None and condition.strip() != etag:
        return None
    return parse_range(given.get("range"), size_bytes)


def _unchanged(given: Headers, etag: str) -> bool:
    known = given.get("if-none-match")
    if known is None:
        return False
    return known.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}


def _headers(entry: Entry) -> dict[str, str]:
    hexadecimal = digest_hex(entry.digest)
    encoded = base64.b64encode(bytes.fromhex(hexadecimal)).decode()
    return {
        "ETag": f'"sha256-{hexadecimal}"',
        "Repr-Digest": f"sha-256=:{encoded}:",
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
    }


def _media_type(path: str) -> str:
    return "application/json" if path.endswith(".json") else "application/octet-stream"


def _body(store: Store, entry: Entry, wanted: tuple[int, int] | None, verified: Verified) -> Iterator[bytes]:
    if entry.size_bytes <= VERIFY_FIRST_BYTES:
        whole = store.read_bytes(entry.digest)
        if len(whole) != entry.size_bytes:
            raise CorruptBlob(f"Blob {entry.digest} and its manifest disagree about its size.")
        begin, end = wanted or (0, entry.size_bytes)
        return iter([whole[begin:end]])
    if wanted is None:
        return _stream_whole(store, entry.digest)
    return store.read_range(entry.digest, *wanted, _verified(store, entry.digest, verified))


def _stream_whole(store: Store, digest: str) -> Iterator[bytes]:
    with store.open(digest) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _verified(store: Store, digest: str, verified: Verified) -> str:
    """The fingerprint under which the whole file was read and right."""
    fingerprint = store.fingerprint(digest)
    if verified.get(digest) != fingerprint:
        store.verify(digest)
        verified[digest] = fingerprint
    return fingerprint
