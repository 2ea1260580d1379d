"""A quick look at a database and the newest of what it names: seconds, where `records.integrity` reads every byte.

Nothing is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit
from records.attestation import verify_attestation
from records.database import ahead_seconds
from records.errors import LetheError
from records.findings import Finding
from records.keys import KeyRing
from records.manifest import Manifest
from records.rows import ModelRow, VersionRow
from records.store import Store

HEADS = 5
ENTRIES = 50
SMALL_BYTES = 64 * 2**20  # of one file that is read


@dataclass(frozen=True)
class Server:
    """`most_connections` None: the database is a file. `ahead_seconds` is its clock minus ours."""

    name: str
    most_connections: int | None
    ahead_seconds: float


def server(session: Session) -> Server:
    """What answers."""
    dialect = session.get_bind().dialect
    ahead = ahead_seconds(session)
    name = f"{dialect.name} {'.'.join(map(str, dialect.server_version_info or ()))}"
    if dialect.name != "postgresql":
        return Server(name, None, ahead)
    return Server(name, int(session.scalar(sa.text("SHOW max_connections")) or 0), ahead)


def largest_weights_bytes(session: Session) -> int:
    """Of any model's head."""
    return session.scalar(sa.select(sa.func.max(VersionRow.size_bytes)).join(*_HEAD)) or 0


def check_heads(session: Session, store: Store, keys: KeyRing) -> Iterator[Finding]:
    """The newest heads: manifest, attestation, every file there, the smallest file byte by byte."""
    newest = sa.select(VersionRow).join(*_HEAD).order_by(VersionRow.id.desc()).limit(HEADS)
    for version in session.scalars(newest):
        try:
            _check_version(version, store, keys)
        except LetheError as error:
            yield Finding(f"version {version.number} of {version.model_id}", error.detail)
        except (ValueError, KeyError, TypeError) as error:
            yield Finding(
                f"version {version.number} of {version.model_id}",
                f"It cannot be read ({type(error).__name__}): it was changed.",
            )


def check_log_end(session: Session, keys: KeyRing) -> Iterator[Finding]:
    """The newest signed head, and the newest entries under it."""
    try:
        audit.check_newest(session, keys.public().log_verifier_key, ENTRIES)
    except LetheError as error:
        yield Finding("audit log", error.detail)


_HEAD = (ModelRow, sa.and_(ModelRow.id == VersionRow.model_id, ModelRow.head == VersionRow.number))


def _check_version(version: VersionRow, store: Store, keys: KeyRing) -> None:
    manifest = Manifest.from_json(store.read_bytes(version.manifest_digest))
    if version.attestation_digest is not None:
        verify_attestation(store.read_bytes(version.attestation_digest), keys.log.public_key(), manifest)
    for entry in manifest.entries:
        if not store.exists(entry.digest):
            raise LetheError(f"The store holds no blob {entry.digest}, its file {entry.path}.")
    smallest = min(manifest.entries, key=lambda entry: entry.size_bytes)
    if smallest.size_bytes <= SMALL_BYTES:
        store.verify(smallest.digest)
