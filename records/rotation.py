"""A new master key: the files first, then every row, then the end of the old key.

Nothing is kept of how far it came: the id in front of each wrapped key says which master wrapped it, and the files say
which masters there are. So whoever is killed here is followed by anybody who begins again.

The old key stays for a day and until no row needs it. A process that read it just before may still write a row under
it: an upload takes its time, and a network's file system shows a new file late.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit, sealing, webhooks
from records.database import Database
from records.keys import SECRET_BYTES, WEBHOOK, KeyRing, create, load_secret, sync_folder
from records.masters import MASTER, OTHERS, kept_name
from records.rows import DatasetRow, EvidenceRow, RequestRow, WebhookRow
from records.sealing import Owner, master_key_id

BATCH = 100
STRAGGLERS_SECONDS = 24 * 3600.0  # longer than any upload between its first byte and its row
NEXT = "master.next"


@dataclass(frozen=True)
class Wrapped:
    """A column of wrapped keys: `owner` is the column that names, beside the tenant, whose key it is."""

    row: Any
    column: Any
    owner: Any


WRAPPED = (
    Wrapped(RequestRow, RequestRow.wrapped_key, RequestRow.id),
    Wrapped(EvidenceRow, EvidenceRow.wrapped_key, EvidenceRow.request_id),
    Wrapped(DatasetRow, DatasetRow.wrapped_key, DatasetRow.id),
    Wrapped(WebhookRow, WebhookRow.wrapped_secret, WebhookRow.id),
    Wrapped(WebhookRow, WebhookRow.wrapped_previous, WebhookRow.id),
)


def switch(folder: Path, keys: KeyRing) -> tuple[str, str]:
    """Make a new master key the one that wraps; the present one stays beside it. Returns the ids of both.

    Killed at any point it leaves a whole key under `master.key`, and no key is lost.
    """
    with _one_at_a_time(folder):
        old = load_secret(folder / MASTER)
        if not (folder / WEBHOOK).exists():
            create(folder / WEBHOOK, keys.webhook)
        create(folder / kept_name(master_key_id(old)), old)
        (folder / NEXT).unlink(missing_ok=True)
        create(folder / NEXT, os.urandom(SECRET_BYTES))
        new = load_secret(folder / NEXT)
        (folder / NEXT).replace(folder / MASTER)
        sync_folder(folder)
    return master_key_id(old).hex(), master_key_id(new).hex()


def rotate(database: Database, folder: Path, keys: KeyRing, actor: str) -> int:
    """Switch, unless an earlier rotation is still to be finished, and wrap every key anew. Returns how many there were.

    What cannot be had now, because somebody else holds its row, is left for the next call or the sweeper.
    """
    if not needed(database, keys):
        with database.transaction() as session:
            for row in webhooks.unwrapped(session):
                webhooks.wrap_secrets(row, keys)
        old, new = switch(folder, keys)
        with database.transaction() as session:
            audit.record(session, "master_key.rotated", None, actor, audit.About(), {"from": old, "to": new})
    return rewrap(database, keys)


def rewrap(database: Database, keys: KeyRing) -> int:
    """Put every key that another master wrapped under the present one, a batch a transaction. Returns how many."""
    done = 0
    for one in WRAPPED:
        while count := _rewrap_batch(database, keys, one):
            done += count
    return done


def needed(database: Database, keys: KeyRing) -> dict[str, int]:
    """How many keys each master wraps that is not the present one. What no master here opens is not counted."""
    found: dict[str, int] = {}
    with database.reading() as session:
        for one in WRAPPED:
            wrapped_by = _master_of(one.column)
            query = sa.select(wrapped_by, sa.func.count()).where(_is_old(one, keys)).group_by(wrapped_by)
            for key_id, count in session.execute(query):
                found[key_id.hex()] = found.get(key_id.hex(), 0) + count
    return found


def finish(database: Database, folder: Path, keys: KeyRing, after_seconds: float = STRAGGLERS_SECONDS) -> int:
    """Wrap what came late, and destroy the masters that no row needs, once the present one is old enough. For the
    sweeper; returns how many were destroyed.
    """
    for path in folder.glob("tmp*"):  # of a process that was killed while it made a key
        if time.time() - path.stat().st_mtime > after_seconds:
            path.unlink()
    others = sorted(folder.glob(OTHERS))
    if not others:
        return 0
    rewrap(database, keys)
    if time.time() - (folder / MASTER).stat().st_mtime < after_seconds:
        return 0
    present, still = kept_name(master_key_id(keys.master)), needed(database, keys)
    free = [path for path in others if path.name != present and path.name not in map(_name, still)]
    for path in free:
        path.unlink()
        sync_folder(folder)
        details = {"key": path.stem.removeprefix("master-")}
        with database.transaction() as session:
            audit.record(session, "master_key.destroyed", None, "sweeper", audit.About(), details)
    return len(free)


def _name(key_id: str) -> str:
    return kept_name(bytes.fromhex(key_id))


def _rewrap_batch(database: Database, keys: KeyRing, one: Wrapped) -> int:
    """Rows that others hold are skipped: so nobody waits in a circle."""
    tenant, owner = one.row.tenant_id, one.owner
    query = sa.select(owner, tenant, one.column).where(_is_old(one, keys)).order_by(owner).limit(BATCH)
    with database.transaction() as session:
        found = session.execute(query.with_for_update(skip_locked=True)).all()
        for owner_id, tenant_id, wrapped in found:
            _replace(session, one, owner_id, wrapped, _anew(wrapped, keys, Owner(tenant_id, owner_id)))
    return len(found)


def _anew(wrapped: bytes, keys: KeyRing, owner: Owner) -> bytes:
    return sealing.wrap(keys.open(wrapped, owner).secret, keys.master, owner)


def _replace(session: Session, one: Wrapped, owner_id: str, old: bytes, new: bytes) -> None:
    """`updated_at` says when a request changed for its reader: that stays."""
    same = {"updated_at": RequestRow.updated_at} if one.row is RequestRow else {}
    change = sa.update(one.row).where(one.owner == owner_id, one.column == old)
    session.execute(change.values({one.column.key: new, **same}).execution_options(synchronize_session=False))


def _is_old(one: Wrapped, keys: KeyRing) -> sa.ColumnElement[bool]:
    old: sa.ColumnElement[bool] = _master_of(one.column).in_(keys.masters.ids() - {master_key_id(keys.master)})
    return old


def _master_of(column: Any) -> Any:
    """The id in a wrapped key, after its first byte."""
    return sa.func.substr(column, 2, sealing.KEY_ID_BYTES, type_=sa.LargeBinary)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / "rotate.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
