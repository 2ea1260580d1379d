"""Leaving of a forget set only what its request's `evidence` says: prepared when the request is taken in, done in the
transaction that completes it.

What is to be kept is made while the examples are in memory anyway, so that completing a request reads nothing: it
destroys a key, and the examples are gone wherever copies of the file lie. The file itself is deleted afterwards.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit
from records.database import Database
from records.rows import EvidenceRow, RequestRow
from records.store import Store

BATCH = 500


def settle(session: Session, request: RequestRow, actor: str) -> None:
    """Destroy what is not to be kept of a request that is completed. Doing it twice is no mistake."""
    kept = session.get(EvidenceRow, request.id)
    if kept is None or request.wrapped_key is None or request.payload_file == kept.file:
        return
    kept.spent_file, request.payload_file, request.wrapped_key = request.payload_file, kept.file, kept.wrapped_key
    _record(session, request, "payload.shredded", actor, rows=request.payload_rows)
    _record(session, request, "evidence.kept", actor, kind=request.evidence, rows=kept.rows, hashes=kept.n_hashes)


def shred(session: Session, request: RequestRow, actor: str) -> list[str]:
    """Destroy all that is held of the forget set. Returns the digests of the files to delete after the commit."""
    kept = session.get(EvidenceRow, request.id)
    files = [request.payload_file, *((kept.file, kept.spent_file) if kept else ())]
    if request.wrapped_key is not None:
        _record(session, request, "payload.shredded", actor, rows=request.payload_rows)
    if kept is not None:
        _record(session, request, "evidence.dropped", actor, kind=request.evidence)
        session.delete(kept)
        session.flush()
    request.wrapped_key, request.payload_file = None, None
    return sorted({file for file in files if file is not None})


def hashed_of(session: Session, request_ids: Sequence[str]) -> tuple[EvidenceRow, ...]:
    """What is kept as hashes of these requests, in the order of their ids."""
    query = sa.select(EvidenceRow).where(EvidenceRow.request_id.in_(request_ids), EvidenceRow.n_hashes > 0)
    return tuple(session.scalars(query.order_by(EvidenceRow.request_id)))


def delete_spent(database: Database, store: Store) -> int:
    """Delete the sealed files whose keys are destroyed. Returns how many; a crash in between deletes them next time."""
    with database.reading() as session:
        found = session.execute(
            sa.select(EvidenceRow.request_id, EvidenceRow.spent_file).where(_is_spent()).limit(BATCH)
        )
        spent = dict(found.all())
    for file in spent.values():
        store.delete(file or "")
    if spent:
        with database.transaction() as session:
            gone = sa.update(EvidenceRow).where(EvidenceRow.request_id.in_(spent), _is_spent())
            session.execute(gone.values(spent_file=None))
    return len(spent)


def _is_spent() -> sa.ColumnElement[bool]:
    return EvidenceRow.spent_file.is_not(None)


def _record(session: Session, request: RequestRow, tag: str, actor: str, **details: object) -> None:
    about = audit.About(model_id=request.model_id, request_id=request.id)
    audit.record(session, tag, request.tenant_id, actor, about, details)
