"""Registering a model, and changing what it names: rows and audit entries, in the caller's transaction."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit, tenants
from records.errors import Conflict, FieldError, invalid_field
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
    reference_id: str | None = None,
) -> ModelRow:
    """A model whose `files`, already in the store, are version 1 and head. Raises ModelExists."""
    check_free(session, tenant_id, name)
    model = ModelRow(tenant_id=tenant_id, name=name, source=source, defaults=defaults, reference_id=reference_id)
    session.add(model)
    session.flush()
    details = {"reference": reference_id} if reference_id else {}
    audit.record(session, "model.created", tenant_id, actor, audit.About(model_id=model.id), details)
    first_version(session, model, files, actor)
    return model


def set_reference(session: Session, model: ModelRow, reference: ModelRow | None, actor: str) -> None:
    """Name the model that was never trained on what `model` forgets, or none. Raises Invalid for the model itself.

    `model` must be locked by the caller. Jobs that start from now on measure beside the new reference.
    """
    if reference is not None and reference.id == model.id:
        detail = "A model cannot be its own reference. Name the model it was before its own data was trained on."
        raise invalid_field("/reference", detail)
    model.reference_id = reference.id if reference else None
    _changed(session, model, actor, {"field": "reference", "reference": model.reference_id})


def set_defaults(session: Session, model: ModelRow, defaults: dict[str, Any], actor: str) -> None:
    """Replace what requests get that say nothing; those taken in keep theirs. The caller must lock `model`."""
    model.defaults = defaults
    _changed(session, model, actor, {"field": "defaults"})


def _changed(session: Session, model: ModelRow, actor: str, details: dict[str, Any]) -> None:
    audit.record(session, "model.changed", model.tenant_id, actor, audit.About(model_id=model.id), details)
