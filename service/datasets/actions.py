"""Taking a dataset in and showing what there is. Lines are sealed as they arrive and never shown again."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from records import queries, quotas, races
from records.base import new_id
from records.datasets import put_dataset
from records.errors import LetheError, NotFound
from records.parts import Parts
from records.rows import DatasetRow, ModelRow
from records.sealing import Owner
from records.tenants import Caller
from records.vault import DATASET
from service.datasets.lines import LineCheck
from service.datasets.schemas import DatasetList, DatasetOut, Role


def replace(parts: Parts, caller: Caller, name: str, role: Role, pieces: Iterable[bytes]) -> tuple[DatasetOut, bool]:
    """Check and seal the lines, then make them the model's dataset of that role. Also says whether it is the first.

    Until the row has moved the old dataset stays; after that its file is deleted. A refusal leaves no file of the new
    one; behind a database that went away both stay, since nobody knows which the row names: the other is collected
    (`records.garbage`).
    """
    with parts.database.reading() as session:
        model = queries.model_named(session, caller.tenant_id, name)
        quotas.check_bytes(session, caller.tenant_id, 1, parts.settings.limits, lock=False)
        pieces = quotas.bounded(session, caller.tenant_id, pieces, parts.settings.limits)
    row = _sealed(parts, model, role, pieces)
    try:
        replaced = races.look_again(lambda: _move_in(parts, caller, row))
    except LetheError:
        parts.store.delete(row.file_digest)
        raise
    if replaced is not None:
        parts.store.delete(replaced)
    return _wire(row, model.name), replaced is None


def listed(session: Session, caller: Caller, name: str) -> DatasetList:
    model = queries.model_named(session, caller.tenant_id, name)
    return DatasetList(data=[_wire(row, model.name) for row in queries.datasets_of(session, [model.id])])


def show(session: Session, caller: Caller, name: str, role: Role) -> DatasetOut:
    model = queries.model_named(session, caller.tenant_id, name)
    row = queries.dataset(session, model, str(role))
    if row is None:
        raise NotFound(f"This model has no {role} dataset. PUT one to this path.")
    return _wire(row, model.name)


def _sealed(parts: Parts, model: ModelRow, role: Role, pieces: Iterable[bytes]) -> DatasetRow:
    dataset_id = new_id("dat")
    lines = LineCheck(pieces, parts.settings.http.max_line_bytes)
    sealed = parts.vault.seal(Owner(model.tenant_id, dataset_id), DATASET, lines)
    return DatasetRow(
        id=dataset_id,
        tenant_id=model.tenant_id,
        model_id=model.id,
        role=str(role),
        rows=lines.rows,
        size_bytes=lines.size_bytes,
        plain_digest=lines.digest,
        file_digest=sealed.digest,
        wrapped_key=sealed.wrapped_key,
    )


def _move_in(parts: Parts, caller: Caller, row: DatasetRow) -> str | None:
    with parts.database.transaction() as session:
        quotas.check_bytes(session, caller.tenant_id, row.size_bytes, parts.settings.limits)
        model = queries.model_by_id(session, caller.tenant_id, row.model_id, lock=True)
        return put_dataset(session, model, row, caller.actor)


def _wire(row: DatasetRow, model_name: str) -> DatasetOut:
    path = f"/v1/models/{model_name}"
    return DatasetOut(
        id=row.id,
        model=model_name,
        role=Role(row.role),
        rows=row.rows,
        size_bytes=row.size_bytes,
        digest=row.plain_digest,
        created_at=row.created_at,
        links={"self": f"{path}/datasets/{row.role}", "model": path},
    )
