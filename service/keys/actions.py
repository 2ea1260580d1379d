"""Making, rotating, revoking and showing API keys. The plain key goes into one answer and nowhere else."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from records import api_keys, tenants
from records.base import utc_now
from records.errors import invalid_field
from records.pages import Page
from records.parts import Parts
from records.rows import ApiKeyRow
from records.tenants import Caller
from service.idempotency import Answer, CreatingCall, create_once
from service.keys.schemas import KeyIn, KeyOut, NewKeyOut, RotationIn


def create(parts: Parts, call: CreatingCall, body: KeyIn) -> Answer:
    """A key of the caller's tenant."""
    expires_at, scopes = _in_future(body.expires_at), sorted(map(str, set(body.scopes)))

    def made(session: Session) -> tuple[ApiKeyRow, str]:
        caller = call.caller
        return tenants.create_key(session, caller.tenant_id, body.name, scopes, expires_at, caller.actor)

    return _once(parts, call, made)


def rotate(parts: Parts, call: CreatingCall, key_id: str, body: RotationIn) -> Answer:
    """A key that follows another."""
    expires_at, overlap = _in_future(body.expires_at), timedelta(seconds=body.overlap_seconds)

    def made(session: Session) -> tuple[ApiKeyRow, str]:
        return api_keys.rotate(session, call.caller.tenant_id, key_id, overlap, expires_at, call.caller.actor)

    return _once(parts, call, made)


def revoke(session: Session, caller: Caller, key_id: str) -> None:
    api_keys.revoke(session, caller.tenant_id, key_id, caller.actor)


def show(session: Session, caller: Caller, key_id: str) -> KeyOut:
    return KeyOut(**_wire(api_keys.find(session, caller.tenant_id, key_id)))


def listed(session: Session, caller: Caller, after: str | None, limit: int) -> Page[KeyOut]:
    page = api_keys.page(session, caller.tenant_id, after, limit)
    return Page([KeyOut(**_wire(row)) for row in page.data], page.next_cursor)


def _once(parts: Parts, call: CreatingCall, make: Callable[[Session], tuple[ApiKeyRow, str]]) -> Answer:
    """What is stored under the Idempotency-Key lacks the secret: a database dump must open nothing."""
    plain: list[str] = []

    def create(session: Session) -> Answer:
        row, secret = make(session)
        plain[:] = [secret]
        shown = NewKeyOut(**_wire(row), key=None)
        return Answer(201, f"/v1/keys/{row.id}", shown.model_dump(mode="json"))

    answer, is_new = create_once(call, parts, create)
    return Answer(answer.status, answer.location, {**answer.body, "key": plain[0]}) if is_new else answer


def _in_future(at: datetime | None) -> datetime | None:
    if at is not None and at <= utc_now():
        raise invalid_field("/expires_at", "The time lies in the past. Give a later one, or none.")
    return at


def _wire(row: ApiKeyRow) -> dict[str, Any]:
    same = ("id", "name", "hint", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at", "replaced_by")
    state = "revoked" if row.revoked_at else "active" if api_keys.is_open(row, utc_now()) else "expired"
    return {**{name: getattr(row, name) for name in same}, "state": state, "links": {"self": f"/v1/keys/{row.id}"}}
