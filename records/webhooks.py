"""Telling others what happened: endpoints, and an outbox of deliveries with attempts and a plan of retries.

A delivery is written in the transaction that moves the state, to every endpoint of the tenant that wants its type and
to the request's own callback. Its body holds ids and states. An endpoint's secret stands in its row, wrapped by the
master key.
"""

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy.orm import Session

from records import audit, pages, sealing, tenants
from records.base import new_id, utc_now
from records.errors import Conflict
from records.keys import KeyRing
from records.pages import Page
from records.rows import DeliveryRow, RequestRow, VersionRow, WebhookRow
from records.sealing import Owner
from records.states import RequestState

EVERY = "*"
MOST_WEBHOOKS = 20
RETRIES = tuple(timedelta(seconds=s) for s in (5, 30, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400))
CLAIM = timedelta(minutes=2)
TOLD_TO_CALLBACKS = frozenset(
    str(state)
    for state in (
        RequestState.COMPLETED,
        RequestState.FAILED,
        RequestState.CANCELLED,
        RequestState.REJECTED,
        RequestState.NEEDS_REVIEW,
    )
)


def add(session: Session, tenant_id: str, url: str, events: list[str], actor: str, keys: KeyRing) -> WebhookRow:
    """A new endpoint. Raises Conflict when the tenant has as many as it may."""
    tenants.count_alone(session, tenant_id)
    known = tenants.visible(sa.select(sa.func.count()).select_from(WebhookRow), WebhookRow, tenant_id)
    if (session.scalar(known) or 0) >= MOST_WEBHOOKS:
        raise Conflict(f"There are {MOST_WEBHOOKS} webhooks already. Delete one first.")
    row = WebhookRow(id=new_id("whk"), tenant_id=tenant_id, url=url, events=events)
    row.wrapped_secret = sealing.new_wrapped_key(keys.master, _owner(row))
    session.add(row)
    session.flush()
    _record(session, row, "webhook.created", actor)
    return row


def find(session: Session, tenant_id: str, webhook_id: str, lock: bool = False) -> WebhookRow:
    return tenants.find(session, WebhookRow, tenant_id, WebhookRow.id == webhook_id, lock=lock)


def page(session: Session, tenant_id: str, after: str | None, limit: int) -> Page[WebhookRow]:
    query = tenants.visible(sa.select(WebhookRow), WebhookRow, tenant_id)
    return pages.page(session, query, WebhookRow, after, limit)


def rotate(
    session: Session, tenant_id: str, webhook_id: str, overlap: timedelta, actor: str, keys: KeyRing
) -> WebhookRow:
    """The next secret; deliveries carry signatures of both for `overlap`. A disabled endpoint is enabled."""
    row = find(session, tenant_id, webhook_id, lock=True)
    wrap_secrets(row, keys)
    row.wrapped_previous = row.wrapped_secret
    row.wrapped_secret = sealing.new_wrapped_key(keys.master, _owner(row))
    row.generation += 1
    row.previous_until = utc_now() + overlap
    row.disabled_at = None
    _record(session, row, "webhook.rotated", actor)
    return row


def delete(session: Session, tenant_id: str, webhook_id: str, actor: str) -> None:
    """Take the endpoint away, and what was still to be delivered to it."""
    row = find(session, tenant_id, webhook_id, lock=True)
    session.execute(sa.delete(DeliveryRow).where(DeliveryRow.webhook_id == row.id))
    _record(session, row, "webhook.deleted", actor)
    session.delete(row)


def delivery_page(session: Session, webhook: WebhookRow, after: str | None, limit: int) -> Page[DeliveryRow]:
    query = tenants.visible(sa.select(DeliveryRow), DeliveryRow, webhook.tenant_id)
    return pages.page(session, query.where(DeliveryRow.webhook_id == webhook.id), DeliveryRow, after, limit)


def redeliver(session: Session, webhook: WebhookRow, delivery_id: str, actor: str) -> DeliveryRow:
    """Deliver once more, from the beginning of the plan, under the same id."""
    wanted = (DeliveryRow.id == delivery_id, DeliveryRow.webhook_id == webhook.id)
    row = tenants.find(session, DeliveryRow, webhook.tenant_id, *wanted, lock=True)
    row.attempts, row.next_at, row.delivered_at = 0, utc_now(), None
    _record(session, webhook, "webhook.redelivered", actor, delivery=row.id)
    return row


def note_request(session: Session, row: RequestRow, state: str) -> None:
    """Write what a request's move makes to be delivered."""
    data = {"object": "erasure_request", "id": row.id, "state": state, "href": f"/v1/erasure-requests/{row.id}"}
    if row.callback_url and state in TOLD_TO_CALLBACKS:
        session.add(_delivery(row.tenant_id, f"erasure_request.{state}", data, url=row.callback_url))
    _to_endpoints(session, row.tenant_id, f"erasure_request.{state}", data)


def note_version(session: Session, row: VersionRow, state: str) -> None:
    """Write what a version's move makes to be delivered."""
    data = {"object": "version", "id": row.id, "state": state, "model_id": row.model_id, "number": row.number}
    _to_endpoints(session, row.tenant_id, f"version.{state}", data)


def claim_due(session: Session, under_way: Mapping[str, int], share: int) -> DeliveryRow | None:
    """A delivery whose time has come, held by this process for two minutes: nobody else takes it meanwhile.

    `under_way` are the tries of each tenant now. Of one with `share` of them none is claimed, and those without any
    come first.
    """
    now, tenant = utc_now(), DeliveryRow.tenant_id
    served = [one for one, tries in under_way.items() if tries]
    full = [one for one, tries in under_way.items() if tries >= share]
    due = sa.select(DeliveryRow).where(DeliveryRow.next_at <= now, tenant.not_in(full))
    first = due.order_by(tenant.in_(served), DeliveryRow.next_at).limit(1)
    row = session.scalar(first.with_for_update(skip_locked=True))
    if row is not None:
        row.next_at = now + CLAIM
        row.attempts += 1
    return row


def endpoint(session: Session, webhook_id: str) -> WebhookRow | None:
    """For who delivers."""
    return session.get(WebhookRow, webhook_id)


def succeeded(session: Session, delivery_id: str, status: int) -> None:
    row = session.get(DeliveryRow, delivery_id)
    if row is not None:
        row.delivered_at, row.next_at, row.last_status, row.last_error = utc_now(), None, status, None


def failed(session: Session, delivery_id: str, status: int | None, why: str, wait: timedelta | None = None) -> None:
    """Plan the next try, at the earliest after `wait`; or none, when the plan is spent."""
    row = session.get(DeliveryRow, delivery_id)
    if row is None:
        return
    row.last_status, row.last_error = status, why
    if row.attempts > len(RETRIES):
        row.next_at = None
        return
    tried = max(row.attempts, 1)  # none, if somebody had it told again during the try
    pause = RETRIES[tried - 1] * random.uniform(1.0, 1.2)  # noqa: S311 - jitter, not a secret
    row.next_at = utc_now() + max(pause, wait or pause)


def gone(session: Session, delivery_id: str) -> None:
    """The endpoint said 410: nothing more goes to it until its secret is rotated."""
    row = session.get(DeliveryRow, delivery_id)
    if row is None:
        return
    row.next_at, row.last_status, row.last_error = None, 410, "gone"
    webhook = endpoint(session, row.webhook_id) if row.webhook_id else None
    if webhook is not None and webhook.disabled_at is None:
        webhook.disabled_at = utc_now()
        _record(session, webhook, "webhook.disabled", "courier")


def delete_old(session: Session, keep: timedelta) -> None:
    """Forget deliveries that are over and older than `keep`."""
    over = sa.delete(DeliveryRow).where(DeliveryRow.next_at.is_(None), DeliveryRow.created_at < utc_now() - keep)
    count = len(session.scalars(over.returning(DeliveryRow.id)).all())
    if count:
        audit.record(session, "deliveries.expired", None, "retention", audit.About(), {"count": count})


def secrets_of(row: WebhookRow, keys: KeyRing, now: datetime) -> list[bytes]:
    """The secrets whose signatures a delivery carries now, the newest first."""
    secrets = [_secret(row, keys)]
    if row.previous_until is not None and row.previous_until > now:
        previous = row.wrapped_previous
        secrets.append(keys.open(previous, _owner(row)).secret if previous else _derived(row, row.generation - 1, keys))
    return secrets


def secret_text(row: WebhookRow, keys: KeyRing) -> str:
    """As Standard Webhooks writes a secret."""
    return "whsec_" + base64.b64encode(_secret(row, keys)).decode()


def unwrapped(session: Session) -> list[WebhookRow]:
    """Endpoints from the time when secrets were derived from the master key and stood in no row."""
    return list(session.scalars(sa.select(WebhookRow).where(WebhookRow.wrapped_secret.is_(None)).with_for_update()))


def wrap_secrets(row: WebhookRow, keys: KeyRing) -> None:
    """Keep the secrets that are derived from the master key beyond its end. Twice is no mistake."""
    if row.wrapped_secret is None:
        for name, generation in (("wrapped_secret", row.generation), ("wrapped_previous", row.generation - 1)):
            setattr(row, name, sealing.wrap(_derived(row, generation, keys), keys.master, _owner(row)))


def _secret(row: WebhookRow, keys: KeyRing) -> bytes:
    return (
        keys.open(row.wrapped_secret, _owner(row)).secret if row.wrapped_secret else _derived(row, row.generation, keys)
    )


def _derived(row: WebhookRow, generation: int, keys: KeyRing) -> bytes:
    said = f"webhook secret\0{row.id}\0{generation}"
    return hmac.new(keys.master, said.encode(), hashlib.sha256).digest()


def _owner(row: WebhookRow) -> Owner:
    return Owner(row.tenant_id, row.id)


def signing_key(keys: KeyRing) -> Ed25519PrivateKey:
    """The key that signs every delivery, callbacks too."""
    return Ed25519PrivateKey.from_private_bytes(keys.webhook)


def public_key_text(keys: KeyRing) -> str:
    raw = signing_key(keys).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return "whpk_" + base64.b64encode(raw).decode()


def body_of(row: DeliveryRow) -> bytes:
    """What is sent, the same at every attempt."""
    said = {"type": row.type, "timestamp": row.created_at.isoformat(), "data": row.data}
    return json.dumps(said, separators=(",", ":"), sort_keys=True).encode()


def signed_headers(row: DeliveryRow, body: bytes, secrets: list[bytes], keys: KeyRing, now: datetime) -> dict[str, str]:
    """Standard Webhooks 1.0.0: the id stays over retries, the time is the attempt's, both are signed."""
    at = str(int(now.timestamp()))
    signed = f"{row.id}.{at}.".encode() + body
    shared = [base64.b64encode(hmac.new(one, signed, hashlib.sha256).digest()).decode() for one in secrets]
    ours = base64.b64encode(signing_key(keys).sign(signed)).decode()
    signatures = [*(f"v1,{one}" for one in shared), f"v1a,{ours}"]
    return {"webhook-id": row.id, "webhook-timestamp": at, "webhook-signature": " ".join(signatures)}


def _to_endpoints(session: Session, tenant_id: str, kind: str, data: dict[str, Any]) -> None:
    query = tenants.visible(sa.select(WebhookRow), WebhookRow, tenant_id).where(WebhookRow.disabled_at.is_(None))
    # Who takes one away meanwhile waits: a delivery to nobody would be refused, and the move of the state with it.
    for row in session.scalars(query.with_for_update(read=True, key_share=True)):
        if EVERY in row.events or kind in row.events:
            session.add(_delivery(tenant_id, kind, data, webhook_id=row.id))


def _delivery(
    tenant_id: str, kind: str, data: dict[str, Any], webhook_id: str | None = None, url: str | None = None
) -> DeliveryRow:
    now = utc_now()
    return DeliveryRow(
        id=new_id("dlv"),
        tenant_id=tenant_id,
        webhook_id=webhook_id,
        url=url,
        type=kind,
        data=data,
        created_at=now,
        next_at=now,
    )


def _record(session: Session, row: WebhookRow, tag: str, actor: str, **more: str) -> None:
    audit.record(session, tag, row.tenant_id, actor, audit.About(), {"webhook": row.id, **more})
