"""Everything a worker must read before it can start a job, in one short read: rows in, one frozen order out."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit, jobs, retention
from records.errors import LetheError
from records.evidence import Evidence
from records.jobs import Claim
from records.own_times import own_times
from records.report import OwnTime
from records.rows import AttemptRow, DatasetRow, EvidenceRow, JobRow, ModelRow, RequestRow, VersionRow
from records.states import Outcome, RequestState
from records.versions import made_since, next_number, oldest_kept, version_of

PUT_OFF = 5  # versions before a consolidation that came to nothing is tried again
# Taken back or never taken on. Who failed to be forgotten still asked.
GONE = (RequestState.CANCELLED, RequestState.REJECTED)


class OrderUnusable(LetheError):
    """The rows of a job contradict each other; the job cannot be started."""

    code = "order_unusable"
    status = 500


@dataclass(frozen=True)
class Order:
    """What a job is to do. Rows are detached: read them, never write them.

    `first_number` and `first_manifest` are the oldest version whose weights are kept: the least worn teacher. `made`
    versions came after it, and `made_anew` of them up to the last whose weights were made from an older one than its
    parent; `missed_anew` says whether one of the newest PUT_OFF should have been and was not: that came to nothing.
    `executions` are the starts of the job, this one too. `shredded` completed requests have lost examples: what they
    removed cannot be removed again.
    `earlier` are completed requests whose examples, or canaries at least, are still held, oldest first; of those in
    `hashed`, hashes of their words (`Vault.kept_hashes`) are all that is left. `own_times` are what earlier ones
    measured when they had just been forgotten, of those that were asked again before. `wanted` are requests that wait,
    are looked at by a person, or failed. `forgotten` are the subject
    references of everybody who asked for this model, now or before: none of them may be trained on as if they were to
    be kept.
    `reference_manifest` is version 1 of the model that was never trained on what is to be forgotten; None if the model
    names none, or if those weights are no longer in use.
    """

    held: Claim
    model_name: str
    base_manifest: str
    first_number: int
    first_manifest: str
    reference_manifest: str | None
    made: int
    made_anew: int
    missed_anew: bool
    executions: int
    shredded: int
    requests: tuple[RequestRow, ...]
    datasets: dict[str, DatasetRow]
    earlier: tuple[RequestRow, ...]
    hashed: tuple[EvidenceRow, ...]
    own_times: dict[str, OwnTime]
    wanted: tuple[RequestRow, ...]
    forgotten: frozenset[str]
    attempts: tuple[AttemptRow, ...]

    @property
    def lead(self) -> RequestRow:
        """The request whose method, parameters and policy the job runs under."""
        return self.requests[0]


@dataclass(frozen=True)
class Moment:
    """What a version's attestation says of the log and the lineage at the time it is made."""

    number: int
    checkpoint: str | None
    at: datetime


def read_order(session: Session, held: Claim) -> Order:
    """The order behind a claim. Raises OrderUnusable when its requests do not agree or its base is gone."""
    model = session.get_one(ModelRow, held.model_id)
    base = version_of(session, held.model_id, held.base_version)
    requests = tuple(jobs.requests_of(session, held.job_id))
    if base is None or not requests:
        raise OrderUnusable(f"Job {held.job_id} has no base version or no request; submit the request again.")
    if len({(one.method, str(one.parameters), one.policy_digest) for one in requests}) != 1:
        raise OrderUnusable(f"The requests of job {held.job_id} differ in method, parameters or policy.")
    first = oldest_kept(session, held.model_id) or base
    made = made_since(session, held.model_id, first.number)
    others = _other_requests(session, held, requests)
    readable = [one for one in others if one.wrapped_key is not None]
    return Order(
        held=held,
        model_name=model.name,
        base_manifest=base.manifest_digest,
        first_number=first.number,
        first_manifest=first.manifest_digest,
        reference_manifest=_reference_manifest(session, model),
        made=len(made),
        made_anew=max((at for at, one in enumerate(made, start=1) if one.weights_from != one.parent), default=0),
        missed_anew=_missed_anew(session, made[-PUT_OFF:]),
        executions=session.get_one(JobRow, held.job_id).executions,
        shredded=sum(not _is_whole(one) for one in others if one.state == RequestState.COMPLETED),
        requests=requests,
        datasets=_datasets(session, held.model_id),
        earlier=tuple(one for one in readable if one.state == RequestState.COMPLETED),
        hashed=retention.hashed_of(session, [one.id for one in others if one.state == RequestState.COMPLETED]),
        own_times=own_times(session, held.model_id, held.job_id),
        wanted=tuple(one for one in readable if one.state != RequestState.COMPLETED),
        forgotten=frozenset(reference for one in (*requests, *others) for reference in _references(one)),
        attempts=tuple(jobs.attempts_of(session, held.job_id)),
    )


def moment(session: Session, held: Claim, now: datetime) -> Moment:
    """The number the next version will carry, and the newest signed tree head."""
    head = audit.tree_head(session)
    return Moment(next_number(session, held.model_id), head.note if head else None, now)


def _missed_anew(session: Session, made: list[VersionRow]) -> bool:
    """By the reports of the attempts behind these versions."""
    missed = AttemptRow.report["training"]["missed_anew"].as_boolean()
    query = sa.select(AttemptRow.number).where(AttemptRow.job_id.in_([one.job_id for one in made]), missed.is_(True))
    return session.scalar(query.limit(1)) is not None


def _is_whole(request: RequestRow) -> bool:
    """Whether all it removed could be removed again; where nothing matched, nothing was."""
    held = request.wrapped_key is not None and request.evidence == Evidence.PROBES
    return held or request.outcome == Outcome.NO_MATCH


def _references(request: RequestRow) -> list[str]:
    """Of all whom it names; a request of an earlier release keeps at most one."""
    return request.subject_references or [one for one in (request.subject_reference,) if one]


def _reference_manifest(session: Session, model: ModelRow) -> str | None:
    """Of version 1 alone: a later one was changed to forget, which moves the numbers it is there to give."""
    oldest = oldest_kept(session, model.reference_id) if model.reference_id else None
    return oldest.manifest_digest if oldest is not None and oldest.number == 1 else None


def _datasets(session: Session, model_id: str) -> dict[str, DatasetRow]:
    return {row.role: row for row in session.scalars(sa.select(DatasetRow).where(DatasetRow.model_id == model_id))}


def _other_requests(session: Session, held: Claim, requests: tuple[RequestRow, ...]) -> list[RequestRow]:
    query = sa.select(RequestRow).where(
        RequestRow.model_id == held.model_id,
        RequestRow.state.not_in(GONE),
        RequestRow.id.not_in([one.id for one in requests]),
    )
    return list(session.scalars(query.order_by(RequestRow.id)))
