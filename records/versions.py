"""Versions: how weights become visible.

Files are in the store before any of these functions runs ("files first, row second"); a function here makes a version
row and moves the model's head in one transaction, or does neither.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import jobs, retention
from records.errors import Conflict
from records.moves import created, move
from records.rows import JobRow, ModelRow, RequestRow, VersionRow
from records.states import JobState, Outcome, RequestState, VersionState


class HeadMoved(Conflict):
    """Another version became head since this one's parent was read."""

    code = "head_moved"


class CancelWon(Conflict):
    """A cancel arrived before the job could publish."""

    code = "cancelled"


@dataclass(frozen=True)
class Files:
    """What a version consists of in the store; `weights_from` is the version they were made from, None the parent."""

    manifest_digest: str
    size_bytes: int
    attestation_digest: str | None = None
    signature_digest: str | None = None
    weights_from: int | None = None


def first_version(session: Session, model: ModelRow, files: Files, actor: str) -> VersionRow:
    """Version 1 of a freshly imported model; it becomes head."""
    version = _add(session, model, 1, None, None, files, actor)
    move(session, version, VersionState.PUBLISHED, actor)
    model.head = version.number
    return version


def publish(session: Session, held: jobs.Claim, number: int, files: Files) -> VersionRow:
    """Make the job's files the new head, supersede its parent, complete the job and its requests.

    Raises LeaseLost (token is old), HeadMoved (parent is no longer head), CancelWon (somebody cancelled first).
    """
    model, job = _may_write(session, held)
    version = _add(session, model, number, held.base_version, job, files, jobs.ACTOR)
    _become_head(session, model, version, jobs.ACTOR)
    for request in jobs.requests_of(session, job.id):
        request.version_number = number
    jobs.finish(session, held, Outcome.FORGOTTEN)
    return version


def keep_candidate(session: Session, held: jobs.Claim, number: int, files: Files, sentence: str) -> VersionRow:
    """Store the job's files as a candidate that waits for a person; head stays. Raises as `publish` does."""
    model, job = _may_write(session, held)
    version = _add(session, model, number, held.base_version, job, files, jobs.ACTOR)
    for request in jobs.requests_of(session, job.id):
        request.version_number = number
    jobs.send_to_review(session, held, sentence)
    return version


def approve(session: Session, request: RequestRow, actor: str, files: Files) -> VersionRow:
    """A person accepts the candidate: it becomes head and the request is completed. `files` carries the attestation
    signed for the approval.

    Raises HeadMoved when another version was published since.
    """
    model, candidate = _reviewed(session, request)
    if model.head != candidate.parent:
        raise HeadMoved(
            f"The candidate was made from version {candidate.parent}, but version {model.head} is head now. "
            "Reject this request and submit it again: it will run on the new head."
        )
    candidate.attestation_digest, candidate.signature_digest = (
        files.attestation_digest,
        files.signature_digest,
    )
    _become_head(session, model, candidate, actor)
    request.outcome = str(Outcome.FORGOTTEN)
    move(session, request, RequestState.COMPLETED, actor, version=candidate.number, outcome=request.outcome)
    retention.settle(session, request, actor)
    return candidate


def refuse(session: Session, request: RequestRow, actor: str, reason: str) -> None:
    """A person turns the candidate down; the request fails with that reason."""
    _, candidate = _reviewed(session, request)
    move(session, candidate, VersionState.REJECTED, actor)
    request.reason, request.version_number = reason, None
    move(session, request, RequestState.FAILED, actor)


def next_number(session: Session, model_id: str) -> int:
    """The number the next version of the model will carry (only the lease holder may use it)."""
    return session.get_one(ModelRow, model_id).last_version + 1


def version_of(session: Session, model_id: str, number: int) -> VersionRow | None:
    return session.scalar(sa.select(VersionRow).where(VersionRow.model_id == model_id, VersionRow.number == number))


def oldest_kept(session: Session, model_id: str) -> VersionRow | None:
    """The first version in use: not purged since it was published, nor set apart on its way there or for a lawyer."""
    return session.scalar(_kept(model_id).limit(1))


def made_since(session: Session, model_id: str, number: int) -> list[VersionRow]:
    """The versions in use that came after `number`, oldest first."""
    return list(session.scalars(_kept(model_id).where(VersionRow.number > number)))


def _kept(model_id: str) -> sa.Select[VersionRow]:
    kept = (VersionState.PUBLISHED, VersionState.SUPERSEDED)
    query = sa.select(VersionRow).where(VersionRow.model_id == model_id, VersionRow.state.in_(kept))
    return query.order_by(VersionRow.number)


def _may_write(session: Session, held: jobs.Claim) -> tuple[ModelRow, JobRow]:
    model, job = jobs.hold(session, held)
    if job.cancel_requested_at is not None:
        raise CancelWon(f"Job {job.id} was cancelled before it could publish.")
    if model.head != held.base_version:
        raise HeadMoved(f"Job {job.id} started from version {held.base_version}, but head is {model.head} now.")
    assert job.state == JobState.RUNNING  # noqa: S101 - `hold` promises it
    return model, job


def _add(
    session: Session,
    model: ModelRow,
    number: int,
    parent: int | None,
    job: JobRow | None,
    files: Files,
    actor: str,
) -> VersionRow:
    if number != model.last_version + 1:
        raise HeadMoved(f"Version {number} of this model exists already.")
    model.last_version = number
    version = VersionRow(
        tenant_id=model.tenant_id,
        model_id=model.id,
        number=number,
        parent=parent,
        weights_from=files.weights_from or parent,
        state=str(VersionState.CANDIDATE),
        job_id=job.id if job else None,
        manifest_digest=files.manifest_digest,
        attestation_digest=files.attestation_digest,
        signature_digest=files.signature_digest,
        size_bytes=files.size_bytes,
    )
    session.add(version)
    session.flush()
    created(session, version, actor, manifest=files.manifest_digest, parent=parent, weights_from=version.weights_from)
    return version


def _become_head(session: Session, model: ModelRow, version: VersionRow, actor: str) -> None:
    parent = version_of(session, model.id, version.parent or 0)
    move(session, version, VersionState.PUBLISHED, actor, attestation=version.attestation_digest)
    if parent is not None and parent.state == VersionState.PUBLISHED:
        move(session, parent, VersionState.SUPERSEDED, actor, by=version.number)
    model.head = version.number


def _reviewed(session: Session, request: RequestRow) -> tuple[ModelRow, VersionRow]:
    model = session.get_one(ModelRow, request.model_id, with_for_update=True, populate_existing=True)
    candidate = version_of(session, model.id, request.version_number or 0)
    if request.state != RequestState.NEEDS_REVIEW or candidate is None:
        raise Conflict(f"Request {request.id} is {request.state}; only a request in needs_review can be judged.")
    return model, candidate
