"""Events of a request as a stream (text/event-stream).

    id: 17          an audit entry; its id is its position in the log, so Last-Event-ID resumes by a query
    event: entry
    data: {...}

    event: progress   where the job is; no id, since only the newest counts
    event: done       the state it ended in; the stream ends

The database is asked twice a second while there is news, less often where there is none, in one of a few threads that
all streams share: any replica can serve any stream. A comment every 15 seconds keeps proxies from closing a quiet one.

A key that is shut or a token that has expired meanwhile ends the stream, without `done`: whoever resumes it then is
told why (401).
"""

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio
from anyio import CapacityLimiter, to_thread
from fastapi import Request
from sqlalchemy.orm import Session

from records import api_keys, jobs, queries
from records.base import utc_now
from records.errors import LetheError
from records.parts import Parts
from records.tenants import Caller
from service.deps import RequestsReader
from service.erasure_requests import wire
from service.erasure_requests.schemas import EventOut

POLL_SECONDS = 0.5
QUIET_POLL_SECONDS = 2.0  # nothing new is learnt later than this
KEEP_ALIVE_SECONDS = 15.0
BATCH = 200


class TooManyStreams(LetheError):
    """The tenant has as many event streams open as it may; some will end."""

    code = "too_many_streams"
    status = 429
    retry_after_seconds: ClassVar[int] = 5


def is_wanted(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


async def place(request: Request, caller: RequestsReader) -> AsyncIterator[None]:
    """A dependency that holds one of the tenant's places until the stream has ended. Raises TooManyStreams."""
    if not is_wanted(request):
        yield
        return
    places: CapacityLimiter = request.app.state.streams.of(caller.tenant_id)
    try:
        places.acquire_nowait()
    except anyio.WouldBlock:
        most = f"{places.total_tokens} event streams, which is all it may have at once"
        raise TooManyStreams(f"This tenant has {most}. Close one, or ask for the request itself.") from None
    try:
        yield
    finally:
        places.release()


@dataclass(frozen=True)
class _Look:
    """What one look into the database showed."""

    entries: list[EventOut]
    progress: dict[str, Any]
    is_done: bool


async def events(
    parts: Parts, caller: Caller, request_id: str, after: int, looks: CapacityLimiter
) -> AsyncIterator[str]:
    """Frames from behind audit position `after` until the request has ended, or the caller may not look any more."""
    told: dict[str, Any] = {}
    spoke_at, pause = time.monotonic(), POLL_SECONDS
    while True:
        look = await to_thread.run_sync(_look, parts, caller, request_id, after, limiter=looks)
        if look is None:
            return
        pause = min(2 * pause, QUIET_POLL_SECONDS)
        for one in _frames(look, told):
            spoke_at, pause = time.monotonic(), POLL_SECONDS
            yield one
        after, told = look.entries[-1].id if look.entries else after, look.progress
        is_whole = len(look.entries) < BATCH
        if look.is_done and is_whole:
            yield frame("done", json.dumps({"state": told["state"], "outcome": told["outcome"]}))
            return
        if time.monotonic() - spoke_at >= KEEP_ALIVE_SECONDS:
            spoke_at = time.monotonic()
            yield ": still here\n\n"
        await anyio.sleep(pause if is_whole else 0)


def _frames(look: _Look, told: dict[str, Any]) -> Iterator[str]:
    for entry in look.entries:
        yield frame("entry", entry.model_dump_json(), entry.id)
    if look.progress != told:
        yield frame("progress", json.dumps(look.progress))


def frame(kind: str, data: str, number: int | None = None) -> str:
    """One event. `data` is JSON on one line."""
    return (f"id: {number}\n" if number is not None else "") + f"event: {kind}\ndata: {data}\n\n"


def _look(parts: Parts, caller: Caller, request_id: str, after: int) -> _Look | None:
    """None for a caller that would not be let in any more."""
    with parts.database.reading() as session:
        if not _is_let_in(session, caller):
            return None
        row = queries.request(session, caller.tenant_id, request_id)
        entries = queries.entries_of_request(session, row, after, BATCH)
        job = jobs.job_of(session, row.id)
        progress = {"state": row.state, "outcome": row.outcome, "stage": None, "attempt": 0, "progress": 0.0}
        if job is not None:
            progress |= {"stage": job.stage, "attempt": job.attempt, "progress": job.progress}
            progress["position"] = queries.places_in_queue(session, [job]).get(job.id)
        return _Look([wire.event(entry) for entry in entries], progress, wire.is_done(row))


def _is_let_in(session: Session, caller: Caller) -> bool:
    if caller.kind == "token":
        return time.time() < caller.until_seconds
    return api_keys.is_open(api_keys.find(session, caller.tenant_id, caller.key_id), utc_now())
