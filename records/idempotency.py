"""Idempotency keys of creating POSTs: the same key and body get the stored answer, another body is refused.

The stored answer is inserted in the transaction that creates, so there is never one without the other; two racing
calls meet at the primary key. A key belongs to the caller within one tenant.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit
from records.base import utc_now
from records.database import Database
from records.errors import Invalid
from records.rows import ApiKeyRow, IdempotencyRow, ModelRow, RequestRow, UploadRow, WebhookRow
from records.tenants import Caller, visible

CREATED: tuple[Any, ...] = (RequestRow, ModelRow, UploadRow, ApiKeyRow, WebhookRow)


class KeyReused(Invalid):
    """The Idempotency-Key was used before with another body."""

    code = "idempotency_key_reused"


@dataclass(frozen=True)
class Answer:
    """A stored HTTP answer. It holds no personal data: creating calls answer with ids and states."""

    status: int
    location: str | None
    body: dict[str, Any]


@dataclass(frozen=True)
class Fingerprint:
    """What makes two calls the same. Only `keyed` is ever stored: a body holds what is to be forgotten, and whoever has
    the database could try guesses against a plain hash long after the forget set's key is destroyed.
    """

    keyed: bytes
    plain: bytes = field(repr=False)

    def fits(self, kept: bytes) -> bool:
        """A row from before fingerprints were keyed holds the plain one. Such rows are all deleted
        LETHE_IDEMPOTENCY_DAYS after the upgrade; then `plain` may go.
        """
        return kept in (self.keyed, self.plain)


def fingerprint(pepper: bytes, method: str, path: str, body: bytes) -> Fingerprint:
    """HMAC-SHA256(pepper, "lethe idempotency" || SHA-256 of method, path and body bytes)."""
    plain = hashlib.sha256(b"\n".join([method.encode(), path.encode(), body])).digest()
    return Fingerprint(hmac.digest(pepper, b"lethe idempotency\x00" + plain, hashlib.sha256), plain)


def stored(session: Session, caller: Caller, key: str, calls_fingerprint: Fingerprint) -> Answer | None:
    """The answer given before. Raises KeyReused when the body differs."""
    row = session.get(IdempotencyRow, (_caller_id(caller), key)) or _without_tenant(session, caller, key)
    if row is None:
        return None
    if not calls_fingerprint.fits(row.fingerprint):
        raise KeyReused("This Idempotency-Key was used with another body. Send a new key, or the first body again.")
    return Answer(row.status, row.location, row.body)


def keep(session: Session, caller: Caller, key: str, calls_fingerprint: Fingerprint, answer: Answer) -> None:
    """Store the answer beside what it created."""
    row = IdempotencyRow(
        caller_id=_caller_id(caller),
        key=key,
        fingerprint=calls_fingerprint.keyed,
        status=answer.status,
        location=answer.location,
        body=answer.body,
    )
    session.add(row)


def _caller_id(caller: Caller) -> str:
    """An API key is one tenant's; the holder of tokens may be one person in several."""
    return caller.key_id if caller.kind == "key" else f"{caller.tenant_id}:{caller.key_id}"


def _without_tenant(session: Session, caller: Caller, key: str) -> IdempotencyRow | None:
    """A token's row from before its tenant was looked at, if what it created is this tenant's and still there.

    Such rows are all deleted LETHE_IDEMPOTENCY_DAYS after the upgrade; then this may go.
    """
    row = session.get(IdempotencyRow, (caller.key_id, key)) if caller.kind == "token" else None
    if row is None:
        return None
    ours = (visible(sa.select(one.id), one, caller.tenant_id).where(one.id == row.body["id"]) for one in CREATED)
    return row if any(session.scalar(query) for query in ours) else None


def delete_old(database: Database, keep: timedelta) -> int:
    """Forget the answers that are older than `keep`; returns how many. Their keys may then be used again."""
    old = sa.delete(IdempotencyRow).where(IdempotencyRow.created_at < utc_now() - keep)
    with database.transaction() as session:
        count = len(session.scalars(old.returning(IdempotencyRow.caller_id)).all())
        if count:
            audit.record(session, "idempotency_keys.expired", None, "retention", audit.About(), {"count": count})
    return count
