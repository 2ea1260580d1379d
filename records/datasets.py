"""Attaching a dataset to a model under a role. A new upload takes the place of the old one as a whole."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit
from records.rows import DatasetRow, ModelRow


def put_dataset(session: Session, model: ModelRow, row: DatasetRow, actor: str) -> str | None:
    """Make `row`, whose sealed file is in the store, the model's dataset of its role.

    The model must be locked by the caller. Returns the digest of the file it replaced, to be deleted after the commit;
    its key goes with its row at once.
    """
    wanted = sa.select(DatasetRow).where(DatasetRow.model_id == model.id, DatasetRow.role == row.role)
    old = session.scalar(wanted)
    if old is not None:
        session.delete(old)
        session.flush()
    session.add(row)
    session.flush()
    details = {"role": row.role, "rows": row.rows, "digest": row.file_digest}
    if old is not None:
        details["replaced"] = old.file_digest
    tag = "dataset.replaced" if old else "dataset.created"
    audit.record(session, tag, row.tenant_id, actor, audit.About(model_id=model.id), details)
    return old.file_digest if old else None
