"""Reading requests, and what people do to them: cancel, approve, reject, shred the forget set."""

from sqlalchemy.orm import Session

from records import erasures, jobs, queries, requests, retention, review, versions
from records.attempts import decisive
from records.errors import Conflict, NotFound
from records.pages import Page
from records.parts import Parts
from records.report import Report
from records.rows import AttemptRow, RequestRow
from records.states import JobState, RequestState
from records.tenants import Caller
from service.erasure_requests import wire
from service.erasure_requests.schemas import ErasureRequestOut, EventOut, ReportOut
from service.jobs.actions import attempt_out

MOST_EVENTS = 1000


class NotReady(NotFound):
    """There will be one, later."""

    code = "not_ready"


def listed(
    session: Session, caller: Caller, model: str | None, state: str | None, after: str | None, limit: int
) -> Page[ErasureRequestOut]:
    model_id = queries.model_named(session, caller.tenant_id, model).id if model else None
    page = queries.request_page(session, caller.tenant_id, model_id, state, after, limit)
    return Page(wire.shown(session, page.data), page.next_cursor)


def visible(session: Session, caller: Caller, request_id: str) -> RequestRow:
    return queries.request(session, caller.tenant_id, request_id)


def events(session: Session, caller: Caller, request_id: str, after: int, limit: int) -> list[EventOut]:
    """Audit entries of the request and its jobs behind position `after`, oldest first."""
    row = queries.request(session, caller.tenant_id, request_id)
    return [wire.event(entry) for entry in queries.entries_of_request(session, row, after, limit)]


def report(session: Session, caller: Caller, request_id: str, number: int | None) -> ReportOut:
    """The report of an attempt, by default of the one that speaks for the job. Raises NotReady."""
    row = queries.request(session, caller.tenant_id, request_id)
    job = jobs.job_of(session, row.id)
    attempts = jobs.attempts_of(session, job.id) if job else []
    chosen = decisive([attempt for attempt in attempts if attempt.report and number in (None, attempt.number)])
    if job is None or chosen is None:
        raise NotReady("There is no such report: no attempt has been measured yet, or none will be.")
    return _report(row, job.id, chosen, attempts)


def cancel(session: Session, caller: Caller, request_id: str, if_match: str | None, reason: str | None) -> RequestRow:
    """Cancel what waits at once; ask what runs to stop at its next step. Raises Conflict behind that point."""
    row = _locked(session, caller, request_id, if_match)
    job = jobs.job_of(session, row.id)
    if job is None or row.state not in (RequestState.QUEUED, RequestState.RUNNING):
        raise Conflict(f"Request {row.id} is {row.state}; only one that waits or runs can be cancelled.")
    row.reason = reason or row.reason
    jobs.cancel(session, job, caller.actor)
    return row


def approve(
    session: Session, parts: Parts, caller: Caller, request_id: str, if_match: str | None, reason: str | None
) -> RequestRow:
    """Publish the candidate a person has looked at, under an attestation that says so."""
    row = _locked(session, caller, request_id, if_match)
    candidate = versions.version_of(session, row.model_id, row.version_number or 0)
    if row.state != RequestState.NEEDS_REVIEW or candidate is None:
        raise Conflict(f"Request {row.id} is {row.state}; only a request in needs_review can be judged.")
    row.reason = reason or row.reason
    versions.approve(session, row, caller.actor, review.approved_files(parts, candidate, caller.actor))
    return row


def reject(session: Session, caller: Caller, request_id: str, if_match: str | None, reason: str) -> RequestRow:
    """Turn a candidate down (the request fails), or refuse a request before its job starts (it is rejected)."""
    row = _locked(session, caller, request_id, if_match)
    job = jobs.job_of(session, row.id)
    if row.state == RequestState.NEEDS_REVIEW:
        versions.refuse(session, row, caller.actor, reason)
    elif row.state == RequestState.QUEUED and job is not None and job.state == JobState.QUEUED:
        requests.refuse_unstarted(session, row, job, caller.actor, reason)
    else:
        raise Conflict(f"Request {row.id} is {row.state}; it can be rejected while it waits or is in review.")
    return row


def shred(parts: Parts, caller: Caller, request_id: str, if_match: str | None) -> None:
    """Destroy the key of the forget set and what else is held of it, then delete the files. Twice is no mistake."""
    with parts.database.transaction() as session:
        row = _locked(session, caller, request_id, if_match)
        requests.check_payload_free(row)
        files = retention.shred(session, row, caller.actor)
    erasures.keep_up(parts.database, parts.store)  # the sweeper would in a moment: the answer says it is done
    for file in files:
        parts.store.delete(file)


def _locked(session: Session, caller: Caller, request_id: str, if_match: str | None) -> RequestRow:
    """The request, its model locked first: the order in which workers lock, so nobody waits in a circle."""
    row = queries.request(session, caller.tenant_id, request_id)
    queries.model_by_id(session, caller.tenant_id, row.model_id, lock=True)
    session.refresh(row, with_for_update=True)
    wire.check_etag(row, if_match)
    return row


def _report(row: RequestRow, job_id: str, chosen: AttemptRow, attempts: list[AttemptRow]) -> ReportOut:
    return ReportOut(
        request_id=row.id,
        job_id=job_id,
        attempt=chosen.number,
        verdict=chosen.verdict,
        reason=chosen.reason,
        report=Report.model_validate(chosen.report),
        attempts=[attempt_out(attempt) for attempt in attempts],
    )
