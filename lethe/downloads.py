"""Download a version's files so that what lies in the folder is right, or is not there.

Each file is streamed into `<name>.part`, hashed on the way, and renamed only when its SHA-256 is the one in the
manifest. A download that was cut off goes on where it stopped. Two downloads into one folder wait for each other, file
by file. The first error, and Ctrl-C, end all files of a download at their next piece. Needs httpx alone.
"""

import base64
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from typing import BinaryIO
from urllib.parse import quote

import httpx

from lethe.transport import PASSING, LetheProblem, Transport

try:
    import fcntl
except ImportError:  # Windows: one download at a time is then the caller's business
    fcntl = None  # type: ignore[assignment]

CHUNK_BYTES = 1 << 20
PARALLEL_FILES = 4
TRIES = 8
STOP_SECONDS = 2.0


class DownloadFailed(Exception):
    """The files could not be had whole and right; the sentence names the file."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the manifest lists it; `digest` is `sha256:<64 hex>`."""

    path: str
    digest: str
    size_bytes: int


OnBytes = Callable[[int], None]
"""Called with the number of bytes that just became good (negative when bytes had to be thrown away)."""


def fetch_all(
    transport: Transport, base: str, files: Sequence[RemoteFile], folder: Path, on_bytes: OnBytes | None = None
) -> None:
    """Bring every file of the version at URL path `base` into `folder`. Raises DownloadFailed or LetheProblem."""
    targets = [_target(folder, file) for file in files]  # refuse a bad path before anything is written
    tell = on_bytes or (lambda _count: None)
    stop = threading.Event()
    pairs = zip(files, targets, strict=True)
    _all_or_first_error([partial(_fetch, transport, base, file, target, tell, stop) for file, target in pairs], stop)


class _Stopped(Exception):
    """Another file failed, or nobody waits any more."""


def _all_or_first_error(jobs: Sequence[Callable[[], None]], stop: threading.Event) -> None:
    """Run them, a few at a time, and raise the first error as it comes. Sets `stop` at the end, however it ends.

    A thread that waits for a silent connection, or for another process's lock, does not see `stop` and is left behind:
    it ends with its wait or with the process.
    """
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    for job in jobs:
        waiting.put(job)
    work = partial(_work, waiting, ended, stop)
    threads = [threading.Thread(target=work, name="download", daemon=True) for _ in jobs[:PARALLEL_FILES]]
    try:
        for thread in threads:
            thread.start()
        for _ in jobs:
            if (error := ended.get()) is not None:
                raise error
    finally:
        stop.set()
        until = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


def _work(
    waiting: SimpleQueue[Callable[[], None]], ended: SimpleQueue[BaseException | None], stop: threading.Event
) -> None:
    with contextlib.suppress(Empty):
        while not stop.is_set():
            job = waiting.get_nowait()
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
                ended.put(error)
            else:
                ended.put(None)


def _fetch(
    transport: Transport, base: str, file: RemoteFile, target: Path, on_bytes: OnBytes, stop: threading.Event
) -> None:
    """Bring one file to `target`: resumed if part of it is there, verified, renamed at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with _alone(part) as sink:
        if target.exists():
            _check_present(target, file)
            on_bytes(file.size_bytes)
            part.unlink(missing_ok=True)
            return
        _fill(transport, f"{base}/files/{quote(file.path)}", file, _Part(sink, on_bytes, stop))
        sink.flush()
        os.fsync(sink.fileno())
        part.replace(target)


def file_digest(path: Path) -> str:
    """`sha256:<hex>` of a file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


class _Part:
    """What has arrived of one file, and its running SHA-256."""

    def __init__(self, sink: BinaryIO, on_bytes: OnBytes, stop: threading.Event) -> None:
        self._sink, self._on_bytes, self._stop = sink, on_bytes, stop
        self._hasher, self.size_bytes = hashlib.sha256(), 0
        sink.seek(0)
        while chunk := sink.read(CHUNK_BYTES):
            self.check_stop()
            self._count(chunk)

    def check_stop(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def append(self, chunk: bytes) -> None:
        self._sink.write(chunk)
        self._count(chunk)

    def start_again(self) -> None:
        self._on_bytes(-self.size_bytes)
        self._sink.seek(0)
        self._sink.truncate()
        self._hasher, self.size_bytes = hashlib.sha256(), 0

    def is_file(self, file: RemoteFile) -> bool:
        return self.size_bytes == file.size_bytes and "sha256:" + self._hasher.hexdigest() == file.digest

    def _count(self, chunk: bytes) -> None:
        self._hasher.update(chunk)
        self.size_bytes += len(chunk)
        self._on_bytes(len(chunk))


def _fill(transport: Transport, url: str, file: RemoteFile, part: _Part) -> None:
    """Read until the part is whole and right. What an earlier download left is distrusted once, and fetched anew."""
    if part.size_bytes > file.size_bytes:
        part.start_again()
    stale = part.size_bytes > 0
    _read_whole(transport, url, file, part)
    if stale and not part.is_file(file):
        part.start_again()
        _read_whole(transport, url, file, part)
    if not part.is_file(file):
        part.start_again()
        raise DownloadFailed(f"{file.path} arrived with another SHA-256 than the manifest says; nothing was kept.")


def _read_whole(transport: Transport, url: str, file: RemoteFile, part: _Part) -> None:
    """Read to the stated size over as many connections as it takes; gives up when several bring nothing."""
    in_vain = 0
    while True:
        part.check_stop()
        before = part.size_bytes
        try:
            _read_on(transport, url, file, part)
        except LetheProblem as problem:
            in_vain = in_vain + 1 if part.size_bytes <= before else 0
            if problem.status not in (0, *PASSING) or in_vain >= TRIES:
                raise
            transport.sleep(min(0.1 * 2**in_vain, 5.0))
        else:
            return


def _read_on(transport: Transport, url: str, file: RemoteFile, part: _Part) -> None:
    """Append what is missing. A server that answers 200 to a Range sends all of it, so all of it is taken."""
    start = part.size_bytes
    if start == file.size_bytes and start > 0:
        return
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    with transport.stream(url, headers) as response:
        _check_headers(response, file)
        if start and response.status_code != 206:
            part.start_again()
        for chunk in response.iter_bytes():  # as they come: a chunk size would lose its buffer with the connection
            part.check_stop()
            if part.size_bytes + len(chunk) > file.size_bytes:
                part.start_again()
                raise DownloadFailed(f"{file.path} is longer than the manifest says; nothing was kept.")
            part.append(chunk)


def _check_headers(response: httpx.Response, file: RemoteFile) -> None:
    """RFC 9530: the digest of the whole file, the same on 200 and 206."""
    stated = response.headers.get("Repr-Digest")
    expected = base64.b64encode(bytes.fromhex(file.digest.removeprefix("sha256:"))).decode()
    if stated is not None and f"sha-256=:{expected}:" not in stated:
        raise DownloadFailed(f"The server states another digest for {file.path} than the manifest does.")


def _target(folder: Path, file: RemoteFile) -> Path:
    """Where a file goes. A manifest may come from anybody, so its paths are not trusted."""
    path = PurePosixPath(file.path)
    unsafe = path.is_absolute() or not path.parts or ".." in path.parts or any(c in file.path for c in "\\:\0")
    if unsafe or file.path.endswith(".part"):
        raise DownloadFailed("The manifest names a path outside the download folder; nothing was downloaded.")
    return folder.joinpath(*path.parts)


def _check_present(target: Path, file: RemoteFile) -> None:
    if file_digest(target) != file.digest:
        raise DownloadFailed(
            f"{target.name} is there already and is not this version's file. Download into a new or empty folder."
        )


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """The part file, open and locked. A lock on a file that another process has meanwhile renamed is taken again."""
    while True:
        with _open_part(part) as sink:
            if fcntl is not None:
                fcntl.flock(sink, fcntl.LOCK_EX)
            if not _is_still(part, sink):
                continue
            yield sink
            return


def _open_part(part: Path) -> BinaryIO:
    return os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644), "r+b")


def _is_still(part: Path, sink: BinaryIO) -> bool:
    try:
        return os.path.samestat(part.stat(), os.fstat(sink.fileno()))
    except FileNotFoundError:
        return False
