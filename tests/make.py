"""Rows with good defaults, written the way the product writes them."""

import itertools

from sqlalchemy.orm import Session

from records import jobs, tenants, versions
from records.base import utc_now
from records.moves import created
from records.rows import JobRow, ModelRow, RequestRow, TenantRow

_count = itertools.count(1)


def digest(letter: str) -> str:
    """A well-formed digest made of one hexadecimal letter."""
    return "sha256:" + letter * 64


def make_tenant(session: Session) -> TenantRow:
    return tenants.create_tenant(session, f"tenant-{next(_count)}")


def make_model(session: Session, tenant: TenantRow | None = None) -> ModelRow:
    """A model whose version 1 is head."""
    tenant = tenant or make_tenant(session)
    model = ModelRow(tenant_id=tenant.id, name=f"acme/model-{next(_count)}", source={})
    session.add(model)
    session.flush()
    versions.first_version(session, model, versions.Files(digest("0"), 10), "test")
    return model


def make_request(session: Session, model: ModelRow) -> RequestRow:
    """A received request without a payload."""
    request = RequestRow(
        tenant_id=model.tenant_id,
        model_id=model.id,
        state="received",
        regulation="gdpr",
        submitted_at=utc_now(),
        due_at=utc_now(),
        method="undial",
        parameters={},
        policy={},
        policy_digest="0" * 64,
    )
    session.add(request)
    session.flush()
    created(session, request, "test")
    return request


def make_job(session: Session, model: ModelRow) -> JobRow:
    """A queued job with one request."""
    return jobs.add_job(session, model, [make_request(session, model)], "test")
