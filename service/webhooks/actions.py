"""Making, rotating, deleting and showing webhooks and their deliveries."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from records import addresses, webhooks
from records.pages import Page
from records.parts import Parts
from records.rows import DeliveryRow, WebhookRow
from records.tenants import Caller
from service.idempotency import Answer, CreatingCall, create_once
from service.webhooks.schemas import DeliveryOut, NewSecretOut, SecretRotationIn, WebhookIn, WebhookOut


def create(parts: Parts, call: CreatingCall, body: WebhookIn) -> Answer:
    """An endpoint of the caller's tenant."""
    addresses.check_url(body.url, parts.settings.webhooks, "/url")
    tenant_id, actor, events = call.caller.tenant_id, call.caller.actor, sorted(body.events)
    return _once(parts, call, lambda session: webhooks.add(session, tenant_id, body.url, events, actor, parts.keys))


def rotate(parts: Parts, call: CreatingCall, webhook_id: str, body: SecretRotationIn) -> Answer:
    """The endpoint's next secret."""
    overlap, tenant_id, actor = timedelta(seconds=body.overlap_seconds), call.caller.tenant_id, call.caller.actor
    return _once(
        parts, call, lambda session: webhooks.rotate(session, tenant_id, webhook_id, overlap, actor, parts.keys)
    )


def delete(session: Session, caller: Caller, webhook_id: str) -> None:
    webhooks.delete(session, caller.tenant_id, webhook_id, caller.actor)


def show(session: Session, parts: Parts, caller: Caller, webhook_id: str) -> WebhookOut:
    return WebhookOut(**_wire(parts, webhooks.find(session, caller.tenant_id, webhook_id)))


def listed(session: Session, parts: Parts, caller: Caller, after: str | None, limit: int) -> Page[WebhookOut]:
    page = webhooks.page(session, caller.tenant_id, after, limit)
    return Page([WebhookOut(**_wire(parts, row)) for row in page.data], page.next_cursor)


def deliveries(session: Session, caller: Caller, webhook_id: str, after: str | None, limit: int) -> Page[DeliveryOut]:
    webhook = webhooks.find(session, caller.tenant_id, webhook_id)
    page = webhooks.delivery_page(session, webhook, after, limit)
    return Page([_delivery(row) for row in page.data], page.next_cursor)


def redeliver(session: Session, caller: Caller, webhook_id: str, delivery_id: str) -> DeliveryOut:
    webhook = webhooks.find(session, caller.tenant_id, webhook_id)
    return _delivery(webhooks.redeliver(session, webhook, delivery_id, caller.actor))


def _once(parts: Parts, call: CreatingCall, make: Callable[[Session], WebhookRow]) -> Answer:
    """What is stored under the Idempotency-Key lacks the secret."""
    secret: list[str] = []

    def create(session: Session) -> Answer:
        row = make(session)
        secret[:] = [webhooks.secret_text(row, parts.keys)]
        shown = NewSecretOut(**_wire(parts, row), secret=None)
        return Answer(201, f"/v1/webhooks/{row.id}", shown.model_dump(mode="json"))

    answer, is_new = create_once(call, parts, create)
    return Answer(answer.status, answer.location, {**answer.body, "secret": secret[0]}) if is_new else answer


def _wire(parts: Parts, row: WebhookRow) -> dict[str, Any]:
    path = f"/v1/webhooks/{row.id}"
    return {
        "id": row.id,
        "url": row.url,
        "events": row.events,
        "state": "disabled" if row.disabled_at else "enabled",
        "created_at": row.created_at,
        "verifying_key": webhooks.public_key_text(parts.keys),
        "links": {"self": path, "deliveries": f"{path}/deliveries"},
    }


def _delivery(row: DeliveryRow) -> DeliveryOut:
    same = ("id", "type", "data", "attempts", "next_at", "delivered_at", "last_status", "last_error", "created_at")
    state = "delivered" if row.delivered_at else "waiting" if row.next_at else "given_up"
    return DeliveryOut(**{name: getattr(row, name) for name in same}, state=state)
