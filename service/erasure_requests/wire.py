"""Rows of requests as they go over the wire, and the ETag of one."""

import hashlib
import json
from datetime import datetime
from typing import Any, Literal

from sqlalchemy.orm import Session

from records import queries
from records.evidence import Evidence
from records.rows import AuditEntryRow, JobRow, RequestRow
from records.states import TERMINAL_REQUEST_STATES, RequestState
from service.erasure_requests.schemas import ChoiceOut, ErasureRequestOut, EventOut, JobSummary, Notice, PayloadOut
from service.problems import PreconditionFailed


def shown(session: Session, rows: list[RequestRow], warnings: list[Notice] | None = None) -> list[ErasureRequestOut]:
    """Requests with what belongs to them, in few queries."""
    names = queries.model_names(session, (row.model_id for row in rows))
    jobs = queries.newest_jobs(session, (row.id for row in rows))
    places = queries.places_in_queue(session, jobs.values())
    hashed = queries.hashed(session, (row.id for row in rows))
    return [
        _one(row, names[row.model_id], jobs.get(row.id), places, _payload(row, row.id in hashed), warnings or [])
        for row in rows
    ]


def event(entry: AuditEntryRow) -> EventOut:
    body: dict[str, Any] = json.loads(entry.event)
    at = datetime.fromisoformat(body["at"])
    return EventOut(id=entry.position, tag=entry.tag, at=at, actor=body["actor"], details=body["details"])


def etag(row: RequestRow) -> str:
    """Changes with the request's own state and reason, not with its job's progress: so an If-Match can hold."""
    parts = [row.id, row.state, row.updated_at.isoformat(), row.wrapped_key is not None]
    return f'"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"'


def check_etag(row: RequestRow, if_match: str | None) -> None:
    """Raises PreconditionFailed (412) when If-Match names another state."""
    if if_match is None or if_match.strip() == "*":
        return
    if etag(row) not in {tag.strip() for tag in if_match.split(",")}:
        raise PreconditionFailed("The request has changed since you read it. Read it again, then decide.")


def is_done(row: RequestRow) -> bool:
    return RequestState(row.state) in TERMINAL_REQUEST_STATES


def _payload(row: RequestRow, hashed: bool) -> PayloadOut:
    held, done = row.wrapped_key is not None, row.state == RequestState.COMPLETED
    kept: Literal["examples", "canaries"] = "canaries" if done and row.evidence == Evidence.CANARIES else "examples"
    left: Literal["hashes", "nothing"] = "hashes" if hashed and done else "nothing"
    return PayloadOut(rows=row.payload_rows, held=held, left=kept if held else left)


def _one(
    row: RequestRow,
    model: str,
    job: JobRow | None,
    places: dict[str, int],
    payload: PayloadOut,
    warnings: list[Notice],
) -> ErasureRequestOut:
    same = ("id", "state", "outcome", "reason", "external_id", "regulation", "submitted_at", "due_at", "method")
    more = ("parameters", "policy", "policy_digest", "policy_name", "created_at", "updated_at")
    return ErasureRequestOut(
        **{name: getattr(row, name) for name in (*same, *more)},
        model=model,
        choice=ChoiceOut(by=row.choice["by"], reasons=row.choice["reasons"]) if row.choice else None,
        done=is_done(row),
        evidence=Evidence(row.evidence),
        payload=payload,
        version=row.version_number,
        job=_job(job) if job else None,
        position=places.get(job.id) if job else None,
        progress=job.progress if job else float(is_done(row)),
        warnings=warnings,
        links=_links(row, model, job),
    )


def _job(job: JobRow) -> JobSummary:
    return JobSummary(
        id=job.id,
        state=job.state,
        stage=job.stage,
        attempt=job.attempt,
        progress=job.progress,
        cancel_requested_at=job.cancel_requested_at,
    )


def _links(row: RequestRow, model: str, job: JobRow | None) -> dict[str, str]:
    path = f"/v1/erasure-requests/{row.id}"
    links = {"self": path, "events": f"{path}/events", "report": f"{path}/report", "model": f"/v1/models/{model}"}
    if job is not None:
        links["job"] = f"/v1/jobs/{job.id}"
    if row.version_number is not None:
        links["version"] = f"/v1/models/{model}/versions/{row.version_number}"
    return links
