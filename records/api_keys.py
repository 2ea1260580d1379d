"""The life of an API key after it was made: used, rotated, revoked. Each but the use is an entry of the audit log."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit, pages, tenants
from records.base import utc_now
from records.errors import Conflict
from records.pages import Page
from records.rows import ApiKeyRow
from records.tenants import Caller

MOST_OVERLAP = timedelta(days=30)
USE_GRAIN = timedelta(minutes=1)


def find(session: Session, tenant_id: str, key_id: str, lock: bool = False) -> ApiKeyRow:
    """One key of the tenant's; NotFound."""
    return tenants.find(session, ApiKeyRow, tenant_id, ApiKeyRow.id == key_id, lock=lock)


def page(session: Session, tenant_id: str, after: str | None, limit: int) -> Page[ApiKeyRow]:
    """The tenant's keys, newest first, those that open nothing any more among them."""
    query = tenants.visible(sa.select(ApiKeyRow), ApiKeyRow, tenant_id)
    return pages.page(session, query, ApiKeyRow, after, limit)


def is_open(key: ApiKeyRow, now: datetime) -> bool:
    """Whether the key still opens anything."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


def rotate(
    session: Session, tenant_id: str, key_id: str, overlap: timedelta, expires_at: datetime | None, actor: str
) -> tuple[ApiKeyRow, str]:
    """A new key with the name and scopes of an old one, which goes on opening for `overlap` and not longer.

    The new key expires at `expires_at`; without it, never. Raises Conflict for a key that is shut or was rotated.
    """
    old, now = find(session, tenant_id, key_id, lock=True), utc_now()
    if not is_open(old, now) or old.replaced_by is not None:
        raise Conflict("The key is expired, revoked or rotated already. Rotate the one that followed it, or make one.")
    new, plain = tenants.create_key(session, tenant_id, old.name, old.scopes, expires_at, actor)
    ends = now + overlap
    old.expires_at = ends if old.expires_at is None else min(ends, old.expires_at)
    old.replaced_by = new.id
    details = {"key": old.id, "to": new.id, "overlap_seconds": int(overlap.total_seconds())}
    audit.record(session, "key.rotated", tenant_id, actor, audit.About(), details)
    return new, plain


def revoke(session: Session, tenant_id: str, key_id: str, actor: str) -> ApiKeyRow:
    """Shut the key now. Twice is no mistake, and one entry. Raises Conflict for the key that asks for it."""
    key = find(session, tenant_id, key_id, lock=True)
    if actor == Caller(tenant_id, key_id, frozenset()).actor:
        raise Conflict("A key cannot revoke itself. Use another, or rotate it with an overlap of 0 seconds.")
    if key.revoked_at is None:
        key.revoked_at = utc_now()
        audit.record(session, "key.revoked", tenant_id, actor, audit.About(), {"key": key.id})
    return key


def mark_used(session: Session, key_ids: Iterable[str]) -> None:
    """Note that the keys were used now, at most once a minute each."""
    now = utc_now()
    stale = sa.or_(ApiKeyRow.last_used_at.is_(None), ApiKeyRow.last_used_at < now - USE_GRAIN)
    session.execute(sa.update(ApiKeyRow).where(ApiKeyRow.id.in_(set(key_ids)), stale).values(last_used_at=now))
