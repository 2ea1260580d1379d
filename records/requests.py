"""Taking an erasure request in: its row, its job, its audit entries and its hint, in the caller's transaction."""

from sqlalchemy.orm import Session

from records import audit, jobs, outbox
from records.base import utc_now
from records.errors import Conflict
from records.jobs import Standing
from records.moves import created, move
from records.rows import EvidenceRow, JobRow, ModelRow, RequestRow
from records.states import JobState, Outcome, RequestState

NEEDS_PAYLOAD = frozenset({RequestState.RECEIVED, RequestState.QUEUED, RequestState.RUNNING})


class PayloadInUse(Conflict):
    """The job may still read the forget set."""

    code = "payload_in_use"


def submit(
    session: Session,
    model: ModelRow,
    request: RequestRow,
    actor: str,
    kept: EvidenceRow | None = None,
    standing: Standing = Standing(),
) -> JobRow:
    """Store a received request and queue its job. `model` must be locked, the sealed forget set in the store.

    `kept` is what is to be left of the forget set at the end, if not the examples themselves.
    """
    _add(session, request, actor)
    if kept is not None:
        session.add(kept)
    job = jobs.add_job(session, model, [request], actor, standing)
    outbox.post(session, outbox.HINT, {"model_id": model.id, "needs": job.needs})
    return job


def close_without_match(session: Session, request: RequestRow, actor: str) -> None:
    """Store a request whose subject is in no training row: there is nothing to forget, and it is completed."""
    _add(session, request, actor)
    request.outcome = str(Outcome.NO_MATCH)
    move(session, request, RequestState.COMPLETED, actor, outcome=request.outcome)


def refuse_unstarted(session: Session, request: RequestRow, job: JobRow, actor: str, reason: str) -> None:
    """A person refuses a request before its job has started. Raises Conflict when the job serves others too."""
    if len(jobs.requests_of(session, job.id)) > 1:
        raise Conflict(f"Job {job.id} serves other requests too; cancel them, or wait and judge its candidate.")
    move(session, job, JobState.CANCELLED, actor)
    job.finished_at = utc_now()
    request.reason = reason
    move(session, request, RequestState.REJECTED, actor)


def check_payload_free(request: RequestRow) -> None:
    """Raises PayloadInUse while the request's job may still read the forget set."""
    if request.state in NEEDS_PAYLOAD:
        raise PayloadInUse(f"Request {request.id} is {request.state}. Cancel it first, or wait until it has ended.")


def _add(session: Session, request: RequestRow, actor: str) -> None:
    session.add(request)
    session.flush()
    details = {"rows": request.payload_rows, "method": request.method, "policy": request.policy_digest}
    more = {"policy_name": request.policy_name, "evidence": request.evidence, "payload": request.payload_file}
    times = {"submitted_at": audit.time_text(request.submitted_at), "due_at": audit.time_text(request.due_at)}
    created(session, request, actor, **details, **more, **times, regulation=request.regulation)
