"""How much of a Lethe one tenant may take. A check locks the tenant's row, so two calls at once cannot both be the last
one that fits; it comes before the lock on a model, and no worker takes it.
"""

from collections.abc import Iterable, Iterator
from typing import ClassVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import tenants
from records.base import utc_now
from records.errors import LetheError
from records.rows import DatasetRow, ModelRow, RequestRow, UploadRow, VersionRow
from records.settings import LimitSettings
from records.states import RequestState, VersionState

_OPEN = (RequestState.RECEIVED, RequestState.QUEUED, RequestState.RUNNING, RequestState.NEEDS_REVIEW)


_Counted = type[ModelRow] | type[RequestRow] | type[UploadRow]


class QuotaReached(LetheError):
    """The tenant has all it may have; trying again will not help."""

    code = "quota_reached"
    status = 403


class TooManyOpen(LetheError):
    """The tenant has as many unfinished requests as it may; some will finish."""

    code = "too_many_open_requests"
    status = 429
    retry_after_seconds: ClassVar[int] = 60


def check_requests(session: Session, tenant_id: str, limits: LimitSettings) -> None:
    """Raises TooManyOpen if one more open request would be one too many."""
    most = limits.quota_open_requests
    if most and _count(session, tenant_id, RequestRow, RequestRow.state.in_(_OPEN)) >= most:
        raise TooManyOpen(f"{most} requests of this tenant are open, which is all it may have. Wait for one to end.")


def check_models(session: Session, tenant_id: str, limits: LimitSettings) -> None:
    """Raises QuotaReached if one more model would be one too many."""
    if limits.quota_models and _count(session, tenant_id, ModelRow) >= limits.quota_models:
        raise QuotaReached(f"This tenant has {limits.quota_models} models, which is all it may have. Ask the operator.")


def check_uploads(session: Session, tenant_id: str, limits: LimitSettings) -> None:
    """Raises QuotaReached if one more upload would be one too many."""
    if limits.quota_uploads and _count(session, tenant_id, UploadRow, _goes_on()) >= limits.quota_uploads:
        raise QuotaReached(
            f"This tenant has {limits.quota_uploads} unfinished uploads, which is all it may have. Make models of "
            "them, or delete them."
        )


def check_bytes(session: Session, tenant_id: str, more_bytes: int, limits: LimitSettings, *, lock: bool = True) -> None:
    """Raises QuotaReached if the tenant's weights and datasets and `more_bytes` are too much together.

    A first look before bytes are taken in needs no lock. A dataset that is replaced counts until it is gone.
    """
    if not limits.quota_bytes:
        return
    if lock:
        tenants.count_alone(session, tenant_id)
    if _held(session, tenant_id) + more_bytes > limits.quota_bytes:
        raise _too_many_bytes(limits)


def bounded(session: Session, tenant_id: str, pieces: Iterable[bytes], limits: LimitSettings) -> Iterable[bytes]:
    """The pieces. Raises QuotaReached as soon as there are more of them than the tenant has room for now: nobody fills
    the disk with what is refused at its end. `check_bytes` then counts what came in beside them.
    """
    if not limits.quota_bytes:
        return pieces
    return _within(limits.quota_bytes - _held(session, tenant_id), pieces, limits)


def _within(room_bytes: int, pieces: Iterable[bytes], limits: LimitSettings) -> Iterator[bytes]:
    for piece in pieces:
        room_bytes -= len(piece)
        if room_bytes < 0:
            raise _too_many_bytes(limits)
        yield piece


def _too_many_bytes(limits: LimitSettings) -> QuotaReached:
    return QuotaReached(
        f"With this the tenant's weights and datasets would have more than the {limits.quota_bytes} bytes they "
        "may have. Ask the operator for a larger quota, or to let old weights go (LETHE_SUPERSEDED_DAYS)."
    )


def _goes_on() -> sa.ColumnElement[bool]:
    """One that has expired can be neither seen nor deleted by its tenant: it must not stand in the way."""
    return UploadRow.expires_at > utc_now()


def _held(session: Session, tenant_id: str) -> int:
    """Versions share files: this counts each version whole, as it would have to be stored alone."""
    versions = tenants.visible(sa.select(sa.func.sum(VersionRow.size_bytes)), VersionRow, tenant_id)
    kept = VersionRow.state.not_in([VersionState.PURGED, VersionState.REJECTED])
    datasets = tenants.visible(sa.select(sa.func.sum(DatasetRow.size_bytes)), DatasetRow, tenant_id)
    uploads = tenants.visible(sa.select(sa.func.sum(UploadRow.size_bytes)), UploadRow, tenant_id)
    counted = (versions.where(kept), datasets, uploads.where(_goes_on()))
    return sum(int(session.scalar(query) or 0) for query in counted)


def _count(session: Session, tenant_id: str, row: _Counted, *where: object) -> int:
    tenants.count_alone(session, tenant_id)
    query = tenants.visible(sa.select(sa.func.count()).select_from(row), row, tenant_id)
    return session.scalar(query.where(*where)) or 0  # type: ignore[arg-type]
