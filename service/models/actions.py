"""Registering a model from a folder, changing what it names, and showing models."""

from typing import Any

from sqlalchemy.orm import Session

from records import checkpoints, models, queries, quotas, uploads
from records.attestation import model_signature
from records.errors import FieldError, LetheError, NotFound, invalid_field
from records.manifest import Manifest
from records.pages import Page
from records.parts import Parts
from records.policies import Policies
from records.rows import ModelRow
from records.tenants import Caller
from records.versions import Files
from service import terms
from service.idempotency import Answer, CreatingCall, answer_once, create_once
from service.models.schemas import DatasetSummary, DefaultsIn, ModelChangeIn, ModelIn, ModelOut
from service.uploads import actions as sent


class NotAvailable(LetheError):
    """Planned, and not there yet."""

    code = "not_available"
    status = 422


def register(parts: Parts, policies: Policies, call: CreatingCall, body: ModelIn) -> Answer:
    """Check everything, copy the files, then make the row and version 1 in one transaction."""
    return answer_once(call, parts, lambda: _register(parts, policies, call, body))


def _register(parts: Parts, policies: Policies, call: CreatingCall, body: ModelIn) -> Answer:
    defaults = _checked_defaults(policies, body.defaults)
    with parts.database.reading() as session:
        models.check_free(session, call.caller.tenant_id, body.name)
        reference = _reference(session, call.caller, body.reference)
    limits, upload_id = parts.settings.limits, body.source.upload
    manifest = _uploaded(parts, call.caller, upload_id) if upload_id else _copied_in(parts, call.caller, body)
    signed = parts.store.put_bytes(model_signature(body.name, manifest, parts.keys.model))
    files = Files(manifest.digest, manifest.size_bytes, signature_digest=signed.digest)
    source = body.source.model_dump(exclude_none=True)

    def create(session: Session) -> Answer:
        quotas.check_models(session, call.caller.tenant_id, limits)
        if upload_id:  # its bytes are the model's from here on
            upload = uploads.find(session, call.caller.tenant_id, upload_id, lock=True)
            uploads.end(session, upload, call.caller.actor, "registered")
            session.flush()
        quotas.check_bytes(session, call.caller.tenant_id, manifest.size_bytes, limits)
        caller, known = call.caller, reference.id if reference else None
        model = models.add_model(session, caller.tenant_id, body.name, source, defaults, files, caller.actor, known)
        return Answer(201, f"/v1/models/{model.name}", _shown(session, [model])[0].model_dump(mode="json"))

    return create_once(call, parts, create)[0]


def change(session: Session, policies: Policies, caller: Caller, name: str, body: ModelChangeIn) -> ModelOut:
    """Set what the body names. Jobs that have started, and the terms of requests taken in, stay as they are."""
    model = queries.model_named(session, caller.tenant_id, name, lock=True)
    if "defaults" in body.model_fields_set:
        models.set_defaults(session, model, _checked_defaults(policies, body.defaults), caller.actor)
    if "reference" in body.model_fields_set:
        models.set_reference(session, model, _reference(session, caller, body.reference), caller.actor)
    session.flush()
    return _shown(session, [model])[0]


def show(session: Session, caller: Caller, name: str) -> ModelOut:
    return _shown(session, [queries.model_named(session, caller.tenant_id, name)])[0]


def listed(session: Session, caller: Caller, after: str | None, limit: int) -> Page[ModelOut]:
    page = queries.model_page(session, caller.tenant_id, after, limit)
    return Page(_shown(session, page.data), page.next_cursor)


def _copied_in(parts: Parts, caller: Caller, body: ModelIn) -> Manifest:
    checkpoint = checkpoints.inspect(_local_path(body), parts.settings.http.import_roots)
    with parts.database.reading() as session:
        quotas.check_bytes(session, caller.tenant_id, checkpoint.size_bytes, parts.settings.limits, lock=False)
    return checkpoints.copy_in(checkpoint, parts.store)


def _uploaded(parts: Parts, caller: Caller, upload_id: str) -> Manifest:
    try:
        return sent.checked(parts, caller, upload_id)
    except NotFound as error:
        raise NotFound(error.detail, (FieldError(sent.POINTER, error.detail),)) from None


def _local_path(body: ModelIn) -> str:
    if body.source.path is None:
        detail = "Importing from a repository is not available yet. Download it, and import the folder by path."
        raise NotAvailable(detail, invalid_field("/source/repo_id", detail).errors)
    return body.source.path


def _reference(session: Session, caller: Caller, name: str | None) -> ModelRow | None:
    return queries.model_named(session, caller.tenant_id, name, pointer="/reference") if name else None


def _checked_defaults(policies: Policies, defaults: DefaultsIn) -> dict[str, Any]:
    """The defaults as given, once a request made of them alone would be valid."""
    method = terms.method_of(defaults.method, pointer="/defaults/method")
    terms.parameters_of(method, defaults.parameters, pointer="/defaults/parameters")
    terms.model_policy(policies, defaults.policy)
    return defaults.model_dump(mode="json", exclude_defaults=True)


def _shown(session: Session, rows: list[ModelRow]) -> list[ModelOut]:
    ids = [row.id for row in rows]
    datasets: dict[str, list[DatasetSummary]] = {}
    for found in queries.datasets_of(session, ids):
        datasets.setdefault(found.model_id, []).append(
            DatasetSummary(
                role=found.role,
                rows=found.rows,
                size_bytes=found.size_bytes,
                digest=found.plain_digest,
                created_at=found.created_at,
            )
        )
    totals = queries.request_totals(session, ids)
    names = queries.model_names(session, (row.reference_id for row in rows if row.reference_id))
    return [
        _wire(row, names.get(row.reference_id or ""), datasets.get(row.id, []), totals.get(row.id, {})) for row in rows
    ]


def _wire(row: ModelRow, reference: str | None, datasets: list[DatasetSummary], requests: dict[str, int]) -> ModelOut:
    path = f"/v1/models/{row.name}"
    links = {"self": path, "versions": f"{path}/versions", "datasets": f"{path}/datasets"}
    if row.head is not None:
        links["head"] = f"{path}/versions/{row.head}"
    if reference is not None:
        links["reference"] = f"/v1/models/{reference}"
    return ModelOut(
        id=row.id,
        name=row.name,
        head=row.head,
        last_version=row.last_version,
        source=row.source,
        defaults=row.defaults,
        reference=reference,
        datasets=datasets,
        requests=requests,
        created_at=row.created_at,
        links=links,
    )
