"""Jobs, and the lease that lets one worker at a time run them.

The lease sits on the model, because one model has one writer. Claiming raises the model's fencing token; everything a
worker writes afterwards goes through `hold`, which refuses a token that is no longer the newest. A worker that slept
through its lease can therefore waste time, but change nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit, counters, retention, tracing
from records.attempts import report_digest
from records.base import utc_now
from records.capabilities import CPU
from records.counters import Event
from records.database import database_seconds
from records.errors import LetheError
from records.moves import created, move
from records.rows import AttemptRow, JobRequestRow, JobRow, ModelRow, RequestRow, StageRow
from records.states import JobState, Outcome, RequestState, Stage

ACTOR = "worker"
PRIORITY_STEP = timedelta(weeks=1)


class LeaseLost(LetheError):
    """Another worker holds the model now; nothing this one does may count."""

    code = "lease_lost"
    status = 409


@dataclass(frozen=True)
class Claim:
    """The right to run one job, good for as long as `fence` is the model's newest token.

    `traceparent` is the span (W3C) that what is done for the job belongs to. `waited_seconds` is how long the job was
    queued before its first start; None at a later one.
    """

    job_id: str
    model_id: str
    tenant_id: str
    fence: int
    base_version: int
    request_ids: tuple[str, ...] = ()
    traceparent: str | None = None
    waited_seconds: float | None = None


@dataclass(frozen=True)
class Standing:
    """What decides which model's work comes first, and who may do it. `needs` is one of records.capabilities.

    The nearest deadline goes first; each step of `priority` counts as a week. So nothing waits for ever: whatever is
    more urgent today, a deadline comes nearer. A deadline that has passed counts as one of now: it is the caller who
    says since when, and whoever names a time long ago must not stay in front of everybody.
    """

    needs: str = CPU
    priority: int = 0


def add_job(
    session: Session, model: ModelRow, requests: list[RequestRow], actor: str, standing: Standing = Standing()
) -> JobRow:
    """Queue a job behind the model's others and move its requests to queued."""
    model.last_job += 1
    job = JobRow(
        tenant_id=model.tenant_id,
        model_id=model.id,
        position=model.last_job,
        state=str(JobState.QUEUED),
        needs=standing.needs,
        run_by=max(min(request.due_at for request in requests) - standing.priority * PRIORITY_STEP, utc_now()),
        traceparent=tracing.here(),
    )
    session.add(job)
    session.flush()
    session.add_all(JobRequestRow(job_id=job.id, request_id=request.id) for request in requests)
    created(session, job, actor, requests=[request.id for request in requests])
    for request in requests:
        move(session, request, RequestState.QUEUED, actor, job=job.id)
    return job


def claim(session: Session, model_id: str, owner: str, lease_seconds: float, max_executions: int) -> Claim | None:
    """Take the model's lease and its oldest unfinished job. None when there is no work or another worker holds it."""
    fence = session.scalar(
        sa.update(ModelRow)
        .where(ModelRow.id == model_id, ModelRow.lease_expires_at < database_seconds())
        .values(lease_owner=owner, lease_expires_at=database_seconds() + lease_seconds, fence=ModelRow.fence + 1)
        .returning(ModelRow.fence)
        .execution_options(synchronize_session=False)
    )
    if fence is None:
        counters.add(session, Event.CLAIM_CONFLICT)
        return None
    model = session.get_one(ModelRow, model_id, populate_existing=True)
    job = _next_job(session, model_id)
    while job is not None and _end_unstarted(session, job, max_executions):
        job = _next_job(session, model_id)
    if job is None or model.head is None:
        _free(model)
        return None
    waited_seconds = None if job.started_at else (utc_now() - job.created_at).total_seconds()
    _start(session, job, model.head)
    request_ids = tuple(request.id for request in requests_of(session, job.id))
    return Claim(job.id, model_id, job.tenant_id, fence, model.head, request_ids, job.traceparent, waited_seconds)


def renew(session: Session, held: Claim, lease_seconds: float) -> bool:
    """Prolong the lease; returns whether a cancel was asked for. Raises LeaseLost."""
    changed = session.execute(
        sa.update(ModelRow)
        .where(
            ModelRow.id == held.model_id,
            ModelRow.fence == held.fence,
            ModelRow.lease_owner.is_not(None),  # the job has ended: nobody may hold the model for it any more
        )
        .values(lease_expires_at=database_seconds() + lease_seconds)
        .returning(ModelRow.id)
    ).first()
    if changed is None:
        raise LeaseLost(f"The lease of model {held.model_id} went to another worker.")
    return session.get_one(JobRow, held.job_id).cancel_requested_at is not None


def hold(session: Session, held: Claim) -> tuple[ModelRow, JobRow]:
    """Lock the model for this transaction and check the token. Every write of a worker starts here.

    Raises LeaseLost when the token is old or the job is no longer running.
    """
    model = session.get_one(ModelRow, held.model_id, with_for_update=True, populate_existing=True)
    job = session.get_one(JobRow, held.job_id, with_for_update=True, populate_existing=True)
    if model.fence != held.fence or job.state != JobState.RUNNING:
        raise LeaseLost(f"Job {held.job_id} is no longer this worker's.")
    return model, job


def set_progress(session: Session, held: Claim, stage: Stage, attempt: int, progress: float) -> None:
    """Show where the job is: `progress` is the share of the whole job, 0 to 1."""
    _, job = hold(session, held)
    job.stage, job.attempt, job.progress = str(stage), attempt, progress


def add_attempt(session: Session, held: Claim, attempt: AttemptRow) -> None:
    """Store one finished attempt; a repeat of the same number (after a crash) replaces it."""
    hold(session, held)
    session.merge(attempt)
    details = {"attempt": attempt.number, "method": attempt.method, "verdict": attempt.verdict}
    measured = {"report": report_digest(attempt)}
    about = audit.About(model_id=held.model_id, job_id=held.job_id)
    audit.record(session, "attempt.finished", held.tenant_id, ACTOR, about, details | measured)


def add_stages(session: Session, held: Claim, stages: Iterable[StageRow]) -> None:
    """Store how long the stages took that ended since the last time."""
    hold(session, held)
    session.add_all(stages)


def finish(session: Session, held: Claim, outcome: Outcome) -> None:
    """The job succeeded and its requests are completed with `outcome`."""
    model, job = hold(session, held)
    for request in requests_of(session, job.id):
        request.outcome = str(outcome)
    _finish(session, job, JobState.SUCCEEDED, RequestState.COMPLETED)
    _free(model)


def send_to_review(session: Session, held: Claim, sentence: str) -> None:
    """The job produced a candidate that a person must judge."""
    model, job = hold(session, held)
    _finish(session, job, JobState.SUCCEEDED, RequestState.NEEDS_REVIEW, reason=sentence)
    _free(model)


def reject(session: Session, held: Claim, sentence: str) -> None:
    """All attempts are spent and none passed the gate."""
    model, job = hold(session, held)
    _finish(session, job, JobState.REJECTED, RequestState.FAILED, "gate", sentence)
    _free(model)


def fail(session: Session, held: Claim, code: str, sentence: str) -> None:
    """The job cannot go on; the model's next job may."""
    model, job = hold(session, held)
    _finish(session, job, JobState.FAILED, RequestState.FAILED, code, sentence)
    _free(model)


def cancelled(session: Session, held: Claim) -> None:
    """The runner has stopped because somebody cancelled."""
    model, job = hold(session, held)
    _finish_cancelled(session, job)
    _free(model)


def hand_back(session: Session, held: Claim, why: str, counts: bool, wait_seconds: float = 0.0) -> None:
    """Queue the job again and drop the lease. `counts` says whether the start counts against `max_executions`.

    Nobody can claim the model for `wait_seconds`.
    """
    model, job = hold(session, held)
    job.executions -= 0 if counts else 1
    move(session, job, JobState.QUEUED, ACTOR, why=why)
    _free(model)
    if wait_seconds:
        session.flush()
        until = database_seconds() + wait_seconds
        session.execute(sa.update(ModelRow).where(ModelRow.id == model.id).values(lease_expires_at=until))


def release_owned(session: Session, owner: str) -> int:
    """Free every lease of `owner`. For a process that knows its former self is dead; returns how many."""
    freed = session.execute(
        sa.update(ModelRow)
        .where(ModelRow.lease_owner == owner)
        .values(lease_owner=None, lease_expires_at=0.0)
        .returning(ModelRow.id)
    )
    return len(freed.all())


def requests_of(session: Session, job_id: str) -> list[RequestRow]:
    query = sa.select(RequestRow).join(JobRequestRow, JobRequestRow.request_id == RequestRow.id)
    return list(session.scalars(query.where(JobRequestRow.job_id == job_id).order_by(RequestRow.id)))


def job_of(session: Session, request_id: str) -> JobRow | None:
    """The newest job that serves a request."""
    query = sa.select(JobRow).join(JobRequestRow, JobRequestRow.job_id == JobRow.id)
    return session.scalar(query.where(JobRequestRow.request_id == request_id).order_by(JobRow.position.desc()).limit(1))


def attempts_of(session: Session, job_id: str) -> list[AttemptRow]:
    return list(session.scalars(sa.select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.number)))


def cancel(session: Session, job: JobRow, actor: str) -> None:
    """Cancel a queued job at once; ask a running one to stop at its next step."""
    if job.state == JobState.QUEUED:
        job.finished_at = utc_now()
        move(session, job, JobState.CANCELLED, actor)
        for request in requests_of(session, job.id):
            move(session, request, RequestState.CANCELLED, actor)
    elif job.cancel_requested_at is None:
        job.cancel_requested_at = utc_now()
        about = audit.About(model_id=job.model_id, job_id=job.id)
        audit.record(session, "job.cancel_requested", job.tenant_id, actor, about, {})


def _next_job(session: Session, model_id: str) -> JobRow | None:
    unfinished = JobRow.state.in_([JobState.QUEUED, JobState.RUNNING])
    query = sa.select(JobRow).where(JobRow.model_id == model_id, unfinished)
    return session.scalar(query.order_by(JobRow.position).limit(1).with_for_update())


def _end_unstarted(session: Session, job: JobRow, max_executions: int) -> bool:
    """End a job that must not be started: a cancelled one whose worker died before it saw that, or a poisonous one."""
    if job.cancel_requested_at is not None:
        _finish_cancelled(session, job)
    elif job.executions >= max_executions:
        sentence = f"{job.executions} starts of this job came to no end: see the workers' logs. It is not tried again."
        _finish(session, job, JobState.FAILED, RequestState.FAILED, "poison", sentence)
    else:
        return False
    session.flush()
    return True


def _start(session: Session, job: JobRow, base_version: int) -> None:
    job.executions += 1
    job.base_version, job.stage, job.progress = base_version, str(Stage.LOAD), 0.0
    job.started_at = job.started_at or utc_now()
    if job.state == JobState.RUNNING:  # its worker died: nobody else can have held the lease
        about = audit.About(model_id=job.model_id, job_id=job.id)
        details = {"execution": job.executions, "base_version": base_version}
        audit.record(session, "job.resumed", job.tenant_id, ACTOR, about, details)
    else:
        move(session, job, JobState.RUNNING, ACTOR, execution=job.executions, base_version=base_version)
    for request in requests_of(session, job.id):
        if request.state == RequestState.QUEUED:
            move(session, request, RequestState.RUNNING, ACTOR, job=job.id)


def _finish_cancelled(session: Session, job: JobRow) -> None:
    _finish(session, job, JobState.CANCELLED, RequestState.CANCELLED, "cancelled", "Cancelled while running.")


def _finish(
    session: Session,
    job: JobRow,
    job_state: JobState,
    request_state: RequestState,
    code: str | None = None,
    reason: str | None = None,
) -> None:
    job.finished_at, job.error_code, job.error = utc_now(), code, reason if code else None
    if job_state == JobState.SUCCEEDED:
        job.progress = 1.0
    move(session, job, job_state, ACTOR, **({"code": code} if code else {}))
    for request in requests_of(session, job.id):
        if request.state == RequestState.QUEUED:  # poison before it ever ran to effect
            move(session, request, RequestState.RUNNING, ACTOR, job=job.id)
        if not (request.reason and job_state == JobState.CANCELLED):  # who cancelled it may have said why
            request.reason = reason
        details = {"outcome": request.outcome} if request.outcome else {}
        move(session, request, request_state, ACTOR, job=job.id, **details)
        if request_state == RequestState.COMPLETED:
            retention.settle(session, request, ACTOR)


def _free(model: ModelRow) -> None:
    model.lease_owner, model.lease_expires_at = None, 0.0
