"""What was destroyed stays destroyed, though the database comes back from a copy that still knows the keys.

Every destruction is an entry of the audit log, and so is what shuts an API key. The sweeper notes it in the store,
outside the database, under a name that says all there is to say (an id, a digest, when the key stops). A second note,
`log`, holds how far that went: position and commitment of an entry. A database that does not have this entry is an
earlier one, or another's: then all that was noted is destroyed once more.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from records import audit, retention
from records.base import utc_now
from records.database import Database
from records.purging import purge
from records.rows import ApiKeyRow, AuditEntryRow, DatasetRow, EvidenceRow, ModelRow, RequestRow, VersionRow
from records.states import VersionState
from records.store import Store

log = structlog.get_logger()

ACTOR = "restore"
LOG, ROLLED_BACK = "log", "rolled-back"
GONE = "gone."
SHREDDED, SETTLED, DATASET, VERSION, KEY = "shredded", "settled", "dataset", "version", "key"
TAGS = ("payload.shredded", "evidence.dropped", "dataset.replaced", "version.purged", "key.revoked", "key.rotated")
BATCH = 500
EVERY_ENTRIES = 100  # without anything destroyed, the note of how far is written anew so often


@dataclass(frozen=True)
class Replayed:
    """What a database that was rolled back still had and has no more."""

    requests: int = 0
    datasets: int = 0
    versions: int = 0
    keys: int = 0  # API keys that were revoked, or whose overlap had begun
    heads: int = 0  # purged versions that are head again: somebody must decide


def keep_up(database: Database, store: Store) -> Replayed | None:
    """Note what was destroyed since the last time. Returns a Replayed for a database that was rolled back, in which it
    destroys first what was lost. Afterwards SQLite's files hold no destroyed key. Twice at once does no harm.
    """
    seen = _seen(store)
    replayed = None
    with database.reading() as session:
        rolled_back = seen is not None and not _knows(session, *seen)
    if rolled_back:
        replayed = replay(database, store)
        store.put_note(ROLLED_BACK, utc_now().isoformat().encode())
        log.warning("erasures.replayed", **asdict(replayed))
        seen = None
    while seen != (seen := _note_batch(database, store, seen)):
        pass
    database.drop_destroyed()
    return replayed


def rolled_back_at(store: Store) -> str | None:
    """When a database was last seen that had lost entries; ISO time."""
    found = store.note(ROLLED_BACK)
    return found.decode() if found else None


def replay(database: Database, store: Store) -> Replayed:
    """Destroy all that was ever noted and is there again."""
    counts = dict.fromkeys((SHREDDED, DATASET, VERSION, KEY, "head"), 0)
    for name in sorted(store.note_names(GONE)):
        kind, _, about = name.removeprefix(GONE).partition(".")
        with database.transaction() as session:
            files, what = _again(session, kind, about)
        for file in files:
            store.delete(file)
        if what:
            counts[what] += 1
    return Replayed(counts[SHREDDED], counts[DATASET], counts[VERSION], counts[KEY], counts["head"])


def _seen(store: Store) -> tuple[int, str] | None:
    found = store.note(LOG)
    if found is None:
        return None
    said = json.loads(found)
    return said["position"], said["commitment"]


def _knows(session: Session, position: int, commitment: str) -> bool:
    entry = session.get(AuditEntryRow, position)
    return entry is not None and entry.commitment.hex() == commitment


def _note_batch(database: Database, store: Store, seen: tuple[int, str] | None) -> tuple[int, str] | None:
    """Note the next destructions and how far that is; returns the new end, or the old one when nothing is left."""
    after = seen[0] if seen else -1
    with database.reading() as session:
        newest = _newest(session)
        between = AuditEntryRow.position.between(after + 1, newest.position if newest else after)
        query = sa.select(AuditEntryRow).where(between, AuditEntryRow.tag.in_(TAGS))
        found = list(session.scalars(query.order_by(AuditEntryRow.position).limit(BATCH)))
        end = found[-1] if len(found) == BATCH else newest
        names = [name for entry in found for name in _names(session, entry)]
    for name in names:
        store.put_note(GONE + name, b"")
    if names:
        database.may_hold_destroyed = True
    if end is None or (not names and seen and end.position < after + EVERY_ENTRIES):
        return seen
    store.put_note(LOG, json.dumps({"position": end.position, "commitment": end.commitment.hex()}).encode())
    return end.position, end.commitment.hex()


def _newest(session: Session) -> AuditEntryRow | None:
    return session.scalar(sa.select(AuditEntryRow).order_by(AuditEntryRow.position.desc()).limit(1))


def _names(session: Session, entry: AuditEntryRow) -> Iterator[str]:
    event = json.loads(entry.event)
    if entry.tag == "payload.shredded":
        yield f"{SETTLED if _something_was_kept(session, entry) else SHREDDED}.{entry.request_id}"
    elif entry.tag == "evidence.dropped":
        yield f"{SHREDDED}.{entry.request_id}"
    elif entry.tag == "version.purged":
        yield f"{VERSION}.{entry.model_id}.{event['version']}"
    elif entry.tag in ("key.revoked", "key.rotated"):
        ends = datetime.fromisoformat(event["at"]) + timedelta(seconds=event["details"].get("overlap_seconds", 0))
        yield f"{KEY}.{event['details']['key']}.{math.ceil(ends.timestamp())}"
    elif replaced := event["details"].get("replaced"):
        yield f"{DATASET}.{replaced.removeprefix('sha256:')}"


def _something_was_kept(session: Session, entry: AuditEntryRow) -> bool:
    """`retention.settle` writes both entries, one after the other in one transaction."""
    following = session.get(AuditEntryRow, entry.position + 1)
    return following is not None and (following.tag, following.request_id) == ("evidence.kept", entry.request_id)


def _again(session: Session, kind: str, about: str) -> tuple[list[str], str | None]:
    """Destroy one thing if it is there; files to delete after the commit, and what it was."""
    if kind in (SHREDDED, SETTLED):
        return _shred(session, about, kind)
    if kind == DATASET:
        return _drop_dataset(session, "sha256:" + about)
    if kind == KEY:
        return _shut(session, *about.split("."))
    model_id, _, number = about.rpartition(".")
    version = session.scalar(
        sa.select(VersionRow).where(VersionRow.model_id == model_id, VersionRow.number == int(number))
    )
    if version is None or version.state == VersionState.PURGED:
        return [], None
    if version.state not in (VersionState.SUPERSEDED, VersionState.QUARANTINED, VersionState.REJECTED):
        return [], "head"
    purge(session, version, ACTOR)
    return [], VERSION


def _shred(session: Session, request_id: str, kind: str) -> tuple[list[str], str | None]:
    request, kept = session.get(RequestRow, request_id), session.get(EvidenceRow, request_id)
    if request is None or (request.wrapped_key is None and (kept is None or kind == SETTLED)):
        return [], None
    session.get_one(ModelRow, request.model_id, with_for_update=True)  # the order in which everybody locks
    session.refresh(request, with_for_update=True)
    before = request.wrapped_key
    if kind == SETTLED and kept is not None:
        retention.settle(session, request, ACTOR)
        return [], SHREDDED if request.wrapped_key != before else None
    return retention.shred(session, request, ACTOR), SHREDDED


def _drop_dataset(session: Session, digest: str) -> tuple[list[str], str | None]:
    row = session.scalar(sa.select(DatasetRow).where(DatasetRow.file_digest == digest))
    if row is None:
        return [], None
    about = audit.About(model_id=row.model_id)
    audit.record(session, "dataset.dropped", row.tenant_id, ACTOR, about, {"role": row.role, "digest": digest})
    session.delete(row)
    return [digest], DATASET


def _shut(session: Session, key_id: str, until_seconds: str) -> tuple[list[str], str | None]:
    """One that leaked must not open again, though its successor may be lost."""
    key, ends = session.get(ApiKeyRow, key_id), datetime.fromtimestamp(int(until_seconds), UTC)
    if key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= ends):
        return [], None
    key.expires_at = ends
    audit.record(session, "key.shut", key.tenant_id, ACTOR, audit.About(), {"key": key.id})
    return [], KEY
