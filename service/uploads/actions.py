"""Taking a folder in file by file, and making a manifest of it that passes what an imported folder must pass."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy.orm import Session

from records import checkpoints, quotas, uploads
from records.errors import FieldError, Invalid, TooLarge, invalid_field
from records.manifest import Entry, Manifest
from records.parts import Parts
from records.rows import UploadFileRow, UploadRow
from records.scratch import scratch_folder, scratch_root, sweep_scratch
from records.tenants import Caller
from service.idempotency import Answer, CreatingCall, create_once
from service.uploads.schemas import FileOut, UploadIn, UploadOut

POINTER = "/source/upload"


def begin(parts: Parts, call: CreatingCall, body: UploadIn) -> Answer:
    """Refuses names and sizes that no checkpoint may have before a byte is sent."""
    settings, limits = parts.settings.http, parts.settings.limits
    entries = [Entry(one.path, one.digest, one.size_bytes) for one in body.files]
    _check(entries, settings.max_upload_bytes)

    def create(session: Session) -> Answer:
        tenant_id = call.caller.tenant_id
        quotas.check_uploads(session, tenant_id, limits)
        quotas.check_bytes(session, tenant_id, sum(one.size_bytes for one in entries), limits)
        keep = timedelta(hours=settings.upload_hours)
        row = uploads.begin(session, tenant_id, entries, keep, call.caller.actor)
        shown = _shown(row, uploads.files(session, row))
        return Answer(201, shown.links["self"], shown.model_dump(mode="json"))

    return create_once(call, parts, create)[0]


def show(session: Session, caller: Caller, upload_id: str) -> UploadOut:
    row = uploads.find(session, caller.tenant_id, upload_id)
    return _shown(row, uploads.files(session, row))


def take_in(parts: Parts, caller: Caller, upload_id: str, path: str, pieces: Iterable[bytes]) -> FileOut:
    """Store one file, if its bytes are those that were announced. Sent again, it is received again."""
    with parts.database.reading() as session:
        announced = uploads.file(session, uploads.find(session, caller.tenant_id, upload_id), path)
    found, size_bytes = hashlib.sha256(), 0
    with parts.store.writer() as sink:  # an error within leaves nothing behind
        for piece in pieces:
            size_bytes += len(piece)
            uploads.check_size(announced, size_bytes)
            found.update(piece)
            sink.write(piece)
        uploads.check_digest(announced, size_bytes, f"sha256:{found.hexdigest()}")
    with parts.database.transaction() as session:
        upload = uploads.find(session, caller.tenant_id, upload_id, lock=True)
        return _file(uploads.received(session, upload, path, caller.actor))


def give_up(session: Session, caller: Caller, upload_id: str) -> None:
    uploads.end(session, uploads.find(session, caller.tenant_id, upload_id, lock=True), caller.actor, "given_up")


def checked(parts: Parts, caller: Caller, upload_id: str) -> Manifest:
    """The upload's files, laid out and looked at as a folder is that is imported. Raises what `inspect` raises."""
    with parts.database.reading() as session:
        found = uploads.whole(session, uploads.find(session, caller.tenant_id, upload_id))
    root = scratch_root(parts.settings)
    sweep_scratch(root)
    with scratch_folder(root, f"{upload_id}.{secrets.token_hex(4)}") as folder:
        parts.store.materialise(found, folder / "files")
        try:
            checkpoints.check_folder(folder / "files")
        except checkpoints.CheckpointRefused as error:
            raise checkpoints.CheckpointRefused(error.detail, (FieldError(POINTER, error.detail),)) from None
    parts.store.put_bytes(found.to_json())
    return found


def _check(entries: list[Entry], most_bytes: int) -> None:
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        problem = (
            "is there twice" if entry.path in seen else checkpoints.announced_problem(entry.path, entry.size_bytes)
        )
        if problem is not None:
            raise _refused(number, problem)
        seen.add(entry.path)
    if sum(entry.size_bytes for entry in entries) > most_bytes:
        raise TooLarge(f"The files have more than {most_bytes} bytes together. Ask the operator, or import by path.")


def _refused(number: int, problem: str) -> Invalid:
    return invalid_field(f"/files/{number}/path", f"The file {problem}. Send what an import would take, and no more.")


def _shown(row: UploadRow, rows: list[UploadFileRow]) -> UploadOut:
    return UploadOut(
        id=row.id,
        size_bytes=row.size_bytes,
        files=[_file(one) for one in rows],
        complete=all(one.stored for one in rows),
        created_at=row.created_at,
        expires_at=row.expires_at,
        links={"self": f"/v1/uploads/{row.id}", "files": f"/v1/uploads/{row.id}/files"},
    )


def _file(row: UploadFileRow) -> FileOut:
    return FileOut(path=row.path, digest=row.digest, size_bytes=row.size_bytes, received=row.stored is not None)
