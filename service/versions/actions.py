"""Versions of a model: lineage, files, signed statements."""

from urllib.parse import quote

from sqlalchemy.orm import Session

from records import queries
from records.errors import NotFound
from records.manifest import Entry, Manifest
from records.pages import Page
from records.rows import ModelRow, VersionRow
from records.store import Store
from records.tenants import Caller
from service.versions.schemas import FileOut, ManifestOut, VersionOut


def listed(session: Session, caller: Caller, name: str, after: str | None, limit: int) -> Page[VersionOut]:
    model = queries.model_named(session, caller.tenant_id, name)
    page = queries.version_page(session, model, after, limit)
    return Page(_shown(session, model, page.data), page.next_cursor)


def show(session: Session, caller: Caller, name: str, number: int) -> VersionOut:
    model = queries.model_named(session, caller.tenant_id, name)
    return _shown(session, model, [queries.version(session, model, number)])[0]


def manifest(session: Session, store: Store, caller: Caller, name: str, number: int) -> Manifest:
    """The files of a version that may be downloaded; NotFound for any other."""
    model = queries.model_named(session, caller.tenant_id, name)
    version = queries.downloadable(session, model, number)
    return Manifest.from_json(store.read_bytes(version.manifest_digest))


def file(session: Session, store: Store, caller: Caller, name: str, number: int, path: str) -> Entry:
    entry = manifest(session, store, caller, name, number).find(path)
    if entry is None:
        raise NotFound(f"Version {number} has no such file. GET its files for the list.")
    return entry


def attestation(session: Session, store: Store, caller: Caller, name: str, number: int) -> bytes:
    """The signed bundle; NotFound for an imported version, which made nobody forgotten."""
    found = _version(session, caller, name, number).attestation_digest
    if found is None:
        raise NotFound(f"Version {number} has no attestation. Versions that were imported have none.")
    return store.read_bytes(found)


def signature(session: Session, store: Store, caller: Caller, name: str, number: int) -> bytes:
    """`model.sig`, as the OpenSSF model signing tools read it."""
    found = _version(session, caller, name, number).signature_digest
    if found is None:
        raise NotFound(f"Version {number} has no model.sig.")
    return store.read_bytes(found)


def manifest_out(found: Manifest, name: str, number: int) -> ManifestOut:
    base = f"/v1/models/{name}/versions/{number}/files"
    files = [
        FileOut(path=entry.path, digest=entry.digest, size_bytes=entry.size_bytes, href=f"{base}/{quote(entry.path)}")
        for entry in found.entries
    ]
    return ManifestOut(
        model=name,
        version=number,
        digest=found.digest,
        model_digest=found.model_digest,
        size_bytes=found.size_bytes,
        files=files,
    )


def _version(session: Session, caller: Caller, name: str, number: int) -> VersionRow:
    return queries.version(session, queries.model_named(session, caller.tenant_id, name), number)


def _shown(session: Session, model: ModelRow, rows: list[VersionRow]) -> list[VersionOut]:
    forgotten, lineage = queries.forgotten_in(session, model), queries.parents(session, model)
    return [_wire(row, model, forgotten, lineage) for row in rows]


def _ancestry(number: int, lineage: dict[int, int | None]) -> list[int]:
    """The version and its ancestors, oldest first."""
    line: list[int] = []
    present: int | None = number
    while present is not None:
        line.append(present)
        present = lineage.get(present)
    return line[::-1]


def _wire(
    row: VersionRow, model: ModelRow, forgotten: dict[int, list[str]], lineage: dict[int, int | None]
) -> VersionOut:
    path = f"/v1/models/{model.name}/versions/{row.number}"
    links = {"self": path, "files": f"{path}/files", "model": f"/v1/models/{model.name}"}
    if row.attestation_digest:
        links["attestation"] = f"{path}/attestation"
    if row.signature_digest:
        links["signature"] = f"{path}/model.sig"
    return VersionOut(
        id=row.id,
        model=model.name,
        number=row.number,
        parent=row.parent,
        state=row.state,
        is_head=model.head == row.number,
        job_id=row.job_id,
        requests=forgotten.get(row.number, []),
        includes=[request for number in _ancestry(row.number, lineage) for request in forgotten.get(number, [])],
        manifest_digest=row.manifest_digest,
        attestation_digest=row.attestation_digest,
        signature_digest=row.signature_digest,
        size_bytes=row.size_bytes,
        created_at=row.created_at,
        links=links,
    )
