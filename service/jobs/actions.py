"""Showing jobs and their attempts."""

from typing import Any

from sqlalchemy.orm import Session

from records import jobs, queries
from records.pages import Page
from records.rows import AttemptRow, JobRow
from records.tenants import Caller
from service.jobs.schemas import AttemptOut, JobDetail, JobError, JobOut


def listed(
    session: Session, caller: Caller, model: str | None, state: str | None, after: str | None, limit: int
) -> Page[JobOut]:
    model_id = queries.model_named(session, caller.tenant_id, model).id if model else None
    page = queries.job_page(session, caller.tenant_id, model_id, state, after, limit)
    return Page([JobOut(**fields) for fields in _fields(session, page.data)], page.next_cursor)


def show(session: Session, caller: Caller, job_id: str) -> JobDetail:
    job = queries.job(session, caller.tenant_id, job_id)
    attempts = [attempt_out(row) for row in jobs.attempts_of(session, job.id)]
    return JobDetail(**_fields(session, [job])[0], attempts=attempts)


def attempt_out(row: AttemptRow) -> AttemptOut:
    return AttemptOut(
        number=row.number,
        method=row.method,
        parameters=row.parameters,
        verdict=row.verdict,
        reason=row.reason,
        has_report=row.report is not None,
        finished_at=row.finished_at,
    )


def _fields(session: Session, rows: list[JobRow]) -> list[dict[str, Any]]:
    names = queries.model_names(session, (row.model_id for row in rows))
    served = queries.served_by(session, (row.id for row in rows))
    ahead = queries.places_in_queue(session, rows)
    return [_wire(row, names[row.model_id], served.get(row.id, []), ahead.get(row.id)) for row in rows]


def _wire(row: JobRow, model: str, requests: list[str], ahead: int | None) -> dict[str, Any]:
    same = ("id", "position", "state", "stage", "attempt", "progress", "executions", "base_version")
    times = ("cancel_requested_at", "created_at", "started_at", "finished_at")
    return {
        **{name: getattr(row, name) for name in (*same, *times)},
        "model": model,
        "ahead": ahead,
        "requests": requests,
        "error": JobError(code=row.error_code, detail=row.error) if row.error_code else None,
        "links": {"self": f"/v1/jobs/{row.id}", "model": f"/v1/models/{model}"},
    }
