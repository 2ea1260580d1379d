"""What the HTTP side reads. Every query that a caller can reach goes through the tenant filter of `records.tenants`."""

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import pages, tenants
from records.errors import FieldError, NotFound
from records.pages import Page
from records.rows import (
    AuditEntryRow,
    DatasetRow,
    EvidenceRow,
    JobRequestRow,
    JobRow,
    ModelRow,
    RequestRow,
    TreeHeadRow,
    VersionRow,
)
from records.states import JobState, RequestState, VersionState


def model_named(session: Session, tenant_id: str, name: str, lock: bool = False, pointer: str = "") -> ModelRow:
    """The tenant's model. NotFound carries `pointer` when the name came from a body."""
    try:
        return tenants.find(session, ModelRow, tenant_id, ModelRow.name == name, lock=lock)
    except NotFound as error:
        if not pointer:
            raise
        detail = "No such model. GET /v1/models lists the models of this key's tenant."
        raise NotFound(detail, (FieldError(pointer, detail),)) from error


def model_by_id(session: Session, tenant_id: str, model_id: str, lock: bool = False) -> ModelRow:
    return tenants.find(session, ModelRow, tenant_id, ModelRow.id == model_id, lock=lock)


def model_page(session: Session, tenant_id: str, after: str | None, limit: int) -> Page[ModelRow]:
    return pages.page(session, tenants.visible(sa.select(ModelRow), ModelRow, tenant_id), ModelRow, after, limit)


def model_names(session: Session, model_ids: Iterable[str]) -> dict[str, str]:
    """Names by id, for rows the caller may see already."""
    wanted = sa.select(ModelRow.id, ModelRow.name).where(ModelRow.id.in_(set(model_ids)))
    return dict(session.execute(wanted).all())


def datasets_of(session: Session, model_ids: Iterable[str]) -> list[DatasetRow]:
    query = sa.select(DatasetRow).where(DatasetRow.model_id.in_(set(model_ids)))
    return list(session.scalars(query.order_by(DatasetRow.role)))


def dataset(session: Session, model: ModelRow, role: str) -> DatasetRow | None:
    wanted = sa.select(DatasetRow).where(DatasetRow.model_id == model.id, DatasetRow.role == role)
    return session.scalar(wanted)


def request_totals(session: Session, model_ids: Iterable[str]) -> dict[str, dict[str, int]]:
    """How many requests each model has in each state."""
    query = (
        sa.select(RequestRow.model_id, RequestRow.state, sa.func.count())
        .where(RequestRow.model_id.in_(set(model_ids)))
        .group_by(RequestRow.model_id, RequestRow.state)
    )
    totals: dict[str, dict[str, int]] = {}
    for model_id, state, count in session.execute(query):
        totals.setdefault(model_id, {})[state] = count
    return totals


def version_page(session: Session, model: ModelRow, after: str | None, limit: int) -> Page[VersionRow]:
    query = tenants.visible(sa.select(VersionRow), VersionRow, model.tenant_id).where(VersionRow.model_id == model.id)
    return pages.page(session, query, VersionRow, after, limit)


def version(session: Session, model: ModelRow, number: int) -> VersionRow:
    """One version of a visible model, in any state; NotFound."""
    wanted = (VersionRow.model_id == model.id, VersionRow.number == number)
    return tenants.find(session, VersionRow, model.tenant_id, *wanted)


def downloadable(session: Session, model: ModelRow, number: int) -> VersionRow:
    """A version whose files may be handed out. NotFound for any other, so that clients drop it."""
    found = version(session, model, number)
    if found.state not in (VersionState.PUBLISHED, VersionState.SUPERSEDED):
        raise NotFound(f"The files of version {number} are not handed out: it is {found.state}.")
    return found


def forgotten_in(session: Session, model: ModelRow) -> dict[int, list[str]]:
    """Completed requests by the version that forgot them."""
    query = sa.select(RequestRow.version_number, RequestRow.id).where(
        RequestRow.model_id == model.id,
        RequestRow.state == RequestState.COMPLETED,
        RequestRow.version_number.is_not(None),
    )
    found: dict[int, list[str]] = {}
    for number, request_id in session.execute(query.order_by(RequestRow.id)):
        found.setdefault(int(number or 0), []).append(request_id)
    return found


def parents(session: Session, model: ModelRow) -> dict[int, int | None]:
    """The lineage: parent by version number."""
    query = sa.select(VersionRow.number, VersionRow.parent).where(VersionRow.model_id == model.id)
    return dict(session.execute(query).all())


def request(session: Session, tenant_id: str, request_id: str, lock: bool = False) -> RequestRow:
    return tenants.find(session, RequestRow, tenant_id, RequestRow.id == request_id, lock=lock)


def request_page(
    session: Session, tenant_id: str, model_id: str | None, state: str | None, after: str | None, limit: int
) -> Page[RequestRow]:
    query = tenants.visible(sa.select(RequestRow), RequestRow, tenant_id)
    query = query.where(RequestRow.model_id == model_id) if model_id else query
    query = query.where(RequestRow.state == state) if state else query
    return pages.page(session, query, RequestRow, after, limit)


def newest_jobs(session: Session, request_ids: Iterable[str]) -> dict[str, JobRow]:
    """The newest job of each request."""
    query = (
        sa.select(JobRequestRow.request_id, JobRow)
        .join(JobRow, JobRow.id == JobRequestRow.job_id)
        .where(JobRequestRow.request_id.in_(set(request_ids)))
        .order_by(JobRow.position)
    )
    return dict(session.execute(query).all())


def places_in_queue(session: Session, jobs: Iterable[JobRow]) -> dict[str, int]:
    """For each unfinished job, how many jobs of its model run or wait before it. Counted where they lie: there may be
    thousands."""
    unfinished = (JobState.QUEUED, JobState.RUNNING)
    wanted = [job for job in jobs if job.state in unfinished]
    if not wanted:
        return {}
    before = sa.func.row_number().over(partition_by=JobRow.model_id, order_by=JobRow.position) - 1
    of_models = JobRow.model_id.in_({job.model_id for job in wanted})
    line = sa.select(JobRow.id, before.label("place")).where(of_models, JobRow.state.in_(unfinished)).subquery()
    found = sa.select(line.c.id, line.c.place).where(line.c.id.in_([job.id for job in wanted]))
    return dict(session.execute(found).all())


def hashed(session: Session, request_ids: Iterable[str]) -> set[str]:
    """Those of the requests of whose forget sets hashes were made."""
    query = sa.select(EvidenceRow.request_id).where(EvidenceRow.n_hashes > 0)
    return set(session.scalars(query.where(EvidenceRow.request_id.in_(set(request_ids)))))


def job(session: Session, tenant_id: str, job_id: str) -> JobRow:
    return tenants.find(session, JobRow, tenant_id, JobRow.id == job_id)


def job_page(
    session: Session, tenant_id: str, model_id: str | None, state: str | None, after: str | None, limit: int
) -> Page[JobRow]:
    query = tenants.visible(sa.select(JobRow), JobRow, tenant_id)
    query = query.where(JobRow.model_id == model_id) if model_id else query
    query = query.where(JobRow.state == state) if state else query
    return pages.page(session, query, JobRow, after, limit)


def served_by(session: Session, job_ids: Iterable[str]) -> dict[str, list[str]]:
    """The requests of each job."""
    query = sa.select(JobRequestRow.job_id, JobRequestRow.request_id).where(JobRequestRow.job_id.in_(set(job_ids)))
    found: dict[str, list[str]] = {}
    for job_id, request_id in session.execute(query.order_by(JobRequestRow.request_id)):
        found.setdefault(job_id, []).append(request_id)
    return found


def entries_of_request(session: Session, row: RequestRow, after: int, limit: int) -> list[AuditEntryRow]:
    """Audit entries of a request and of its jobs behind position `after`, oldest first.

    The jobs are looked up on their own: beside OR a subquery makes PostgreSQL read the tenant's whole log.
    """
    its_jobs = list(session.scalars(sa.select(JobRequestRow.job_id).where(JobRequestRow.request_id == row.id)))
    about = sa.or_(AuditEntryRow.request_id == row.id, AuditEntryRow.job_id.in_(its_jobs))
    query = tenants.visible(sa.select(AuditEntryRow), AuditEntryRow, row.tenant_id)
    query = query.where(about, AuditEntryRow.position > after)
    return list(session.scalars(query.order_by(AuditEntryRow.position).limit(limit)))


def entry_page(session: Session, tenant_id: str, after: int, limit: int) -> list[AuditEntryRow]:
    """The tenant's audit entries behind position `after`, oldest first."""
    query = tenants.visible(sa.select(AuditEntryRow), AuditEntryRow, tenant_id)
    query = query.where(AuditEntryRow.position > after)
    return list(session.scalars(query.order_by(AuditEntryRow.position).limit(limit)))


def entry(session: Session, tenant_id: str, position: int) -> AuditEntryRow:
    return tenants.find(session, AuditEntryRow, tenant_id, AuditEntryRow.position == position)


def head_of_size(session: Session, size: int) -> TreeHeadRow:
    """The head that was signed for exactly this many entries. NotFound for a size no transaction ended at."""
    head = session.get(TreeHeadRow, size)
    if head is None:
        raise NotFound(f"No tree head was signed for {size} entries. Use the size of a head you were given.")
    return head


def ping(session: Session) -> None:
    """Raises SQLAlchemy's OperationalError when the database does not answer."""
    session.execute(sa.select(1))
