"""Registering a model: its row, its version 1 and the audit entries, in the caller's transaction."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit, tenants
from records.errors import Conflict, FieldError
from records.rows import ModelRow
from records.versions import Files, first_version


class ModelExists(Conflict):
    """The tenant has a model of that name."""

    code = "model_exists"


def check_free(session: Session, tenant_id: str, name: str) -> None:
    """Raises ModelExists if the tenant has a model of that name."""
    wanted = tenants.visible(sa.select(ModelRow.id), ModelRow, tenant_id).where(ModelRow.name == name)
    if session.scalar(wanted) is not None:
        detail = "There is a model of this name already. Choose another name."
        raise ModelExists(detail, (FieldError("/name", detail),))


def add_model(
    session: Session,
    tenant_id: str,
    name: str,
    source: dict[str, Any],
    defaults: dict[str, Any],
    files: Files,
    actor: str,
) -> ModelRow:
    """A model whose `files`, already in the store, are version 1 and head. Raises ModelExists."""
    check_free(session, tenant_id, name)
    model = ModelRow(tenant_id=tenant_id, name=name, source=source, defaults=defaults, last_version=0, last_job=0)
    session.add(model)
    session.flush()
    audit.record(session, "model.created", tenant_id, actor, audit.About(model_id=model.id), {})
    first_version(session, model, files, actor)
    return model
