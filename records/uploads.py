"""Folders that clients send, file by file, to become models. An upload ends when a model is made of it, when somebody
gives it up, or when it expires; what was sent and is named by no version is then collected with other orphans.
"""

from collections.abc import Iterable
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit, tenants
from records.base import utc_now
from records.database import Database
from records.errors import Conflict, Invalid, NotFound, TooLarge
from records.manifest import Entry, Manifest, manifest
from records.rows import UploadFileRow, UploadRow


class WrongBytes(Invalid):
    """What was sent is not what was announced."""

    code = "wrong_bytes"


def begin(session: Session, tenant_id: str, entries: Iterable[Entry], keep: timedelta, actor: str) -> UploadRow:
    """An upload of these files, none of which has come yet."""
    announced = tuple(entries)
    size_bytes = sum(one.size_bytes for one in announced)
    row = UploadRow(tenant_id=tenant_id, size_bytes=size_bytes, expires_at=utc_now() + keep)
    session.add(row)
    session.flush()
    session.add_all(
        UploadFileRow(upload_id=row.id, path=one.path, digest=one.digest, size_bytes=one.size_bytes)
        for one in announced
    )
    session.flush()
    _tell(session, "upload.begun", row, actor, files=len(announced), size_bytes=size_bytes)
    return row


def find(session: Session, tenant_id: str, upload_id: str, lock: bool = False) -> UploadRow:
    """Raises NotFound for one that has expired, too."""
    return tenants.find(
        session, UploadRow, tenant_id, UploadRow.id == upload_id, UploadRow.expires_at > utc_now(), lock=lock
    )


def files(session: Session, upload: UploadRow) -> list[UploadFileRow]:
    query = sa.select(UploadFileRow).where(UploadFileRow.upload_id == upload.id)
    return list(session.scalars(query.order_by(UploadFileRow.path)))


def file(session: Session, upload: UploadRow, path: str) -> UploadFileRow:
    """Raises NotFound for a path that was not announced."""
    found = session.get(UploadFileRow, (upload.id, path)) if "\0" not in path else None  # no text in PostgreSQL
    if found is None:
        raise NotFound("This upload has no such file. GET the upload: it lists the paths that were announced.")
    return found


def check_size(row: UploadFileRow, so_far: int) -> None:
    """Raises TooLarge as soon as there are more bytes than were announced."""
    if so_far > row.size_bytes:
        raise TooLarge(f"The file has more than the {row.size_bytes} bytes that were announced. Nothing of it is kept.")


def check_digest(row: UploadFileRow, size_bytes: int, digest: str) -> None:
    """Raises WrongBytes unless all of the announced bytes are there."""
    if (size_bytes, digest) != (row.size_bytes, row.digest):
        raise WrongBytes(
            f"{size_bytes} of {row.size_bytes} bytes came, or others than were announced. Nothing of them is kept; "
            "send the file again, or begin another upload if it has changed."
        )


def received(session: Session, upload: UploadRow, path: str, actor: str) -> UploadFileRow:
    """The file's bytes are in the store. `upload` must be locked by the caller."""
    row = file(session, upload, path)
    row.stored = row.digest
    _tell(session, "upload.received", upload, actor, size_bytes=row.size_bytes)
    return row


def whole(session: Session, upload: UploadRow) -> Manifest:
    """All files of it. Raises Conflict while some are missing."""
    rows = files(session, upload)
    missing = sum(row.stored is None for row in rows)
    if missing:
        raise Conflict(
            f"{missing} of {len(rows)} files of the upload have not come yet. GET the upload: it says which."
        )
    return manifest([Entry(row.path, row.digest, row.size_bytes) for row in rows])


def end(session: Session, upload: UploadRow, actor: str, why: str) -> None:
    """`why`: registered, given_up or expired. `upload` must be locked by the caller."""
    session.execute(sa.delete(UploadFileRow).where(UploadFileRow.upload_id == upload.id))
    session.delete(upload)
    _tell(session, "upload.ended", upload, actor, why=why)


def end_expired(database: Database) -> int:
    """How many were ended."""
    ended = 0
    while count := _end_some(database):
        ended += count
    return ended


def _end_some(database: Database) -> int:
    with database.transaction() as session:
        old = sa.select(UploadRow).where(UploadRow.expires_at <= utc_now()).limit(100).with_for_update(skip_locked=True)
        expired = list(session.scalars(old))
        for row in expired:
            end(session, row, "sweeper", "expired")
    return len(expired)


def _tell(session: Session, tag: str, upload: UploadRow, actor: str, **details: object) -> None:
    audit.record(session, tag, upload.tenant_id, actor, audit.About(), {"upload": upload.id, **details})
