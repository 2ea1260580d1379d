"""Events of a request as a stream (text/event-stream).

    id: 17          an audit entry; its id is its position in the log, so Last-Event-ID resumes by a query
    event: entry
    data: {...}

    event: progress   where the job is; no id, since only the newest counts
    event: done       the state it ended in; the stream ends

The database is asked twice a second, in a worker thread: any replica can serve any stream. A comment every 15 seconds
keeps proxies from closing a quiet one.

A key that is shut or a token that has expired meanwhile ends the stream, without `done`: whoever resumes it then is
told why (401).
"""

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
from anyio import to_thread
from sqlalchemy.orm import Session

from records import api_keys, jobs, queries
from records.base import utc_now
from records.parts import Parts
from records.tenants import Caller
from service.erasure_requests import wire
from service.erasure_requests.schemas import EventOut

POLL_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0
BATCH = 200


@dataclass(frozen=True)
class _Look:
    """What one look into the database showed."""

    entries: list[EventOut]
    progress: dict[str, Any]
    is_done: bool


async def events(parts: Parts, caller: Caller, request_id: str, after: int) -> AsyncIterator[str]:
    """Frames from behind audit position `after` until the request has ended, or the caller may not look any more."""
    told: dict[str, Any] = {}
    spoke_at = time.monotonic()
    while True:
        look = await to_thread.run_sync(_look, parts, caller, request_id, after)
        if look is None:
            return
        for one in _frames(look, told):
            spoke_at = time.monotonic()
            yield one
        after, told = look.entries[-1].id if look.entries else after, look.progress
        is_whole = len(look.entries) < BATCH
        if look.is_done and is_whole:
            yield frame("done", json.dumps({"state": told["state"], "outcome": told["outcome"]}))
            return
        if time.monotonic() - spoke_at >= KEEP_ALIVE_SECONDS:
            spoke_at = time.monotonic()
            yield ": still here\n\n"
        await anyio.sleep(POLL_SECONDS if is_whole else 0)


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
