"""/v1/webhooks"""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from service.deps import Administrator, PartsDep
from service.idempotency import CreatingCallDep, to_response
from service.json_route import JsonRoute
from service.pages import DeliveryCursor, ListOut, WebhookCursor
from service.problems import responses
from service.shapes import Id
from service.webhooks import actions
from service.webhooks.schemas import DeliveryOut, NewSecretOut, SecretRotationIn, WebhookIn, WebhookOut

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=JsonRoute)

WebhookId = Annotated[Id, Path()]
DeliveryId = Annotated[Id, Path()]


@router.post(
    "",
    operation_id="createWebhook",
    status_code=201,
    response_model=NewSecretOut,
    responses=responses(403, 409),
)
def create(body: WebhookIn, call: CreatingCallDep, parts: PartsDep, _: Administrator) -> Response:
    """Be told of states as they change, in the form of Standard Webhooks: signed, repeated until you answer 2xx.

    Bodies hold ids and states; read the rest with your key. The secret is in this answer, once.
    """
    return to_response(actions.create(parts, call, body))


@router.get("", operation_id="listWebhooks", responses=responses(403))
def index(cursor: WebhookCursor, parts: PartsDep, caller: Administrator) -> ListOut[WebhookOut]:
    """The tenant's webhooks, newest first."""
    with parts.database.reading() as session:
        page = actions.listed(session, parts, caller, cursor.after, cursor.limit)
    return cursor.page(page.data, page.next_cursor)


@router.get("/{webhook_id}", operation_id="getWebhook", responses=responses(403, 404))
def show(webhook_id: WebhookId, parts: PartsDep, caller: Administrator) -> WebhookOut:
    """One webhook."""
    with parts.database.reading() as session:
        return actions.show(session, parts, caller, webhook_id)


@router.delete("/{webhook_id}", operation_id="deleteWebhook", status_code=204, responses=responses(403, 404))
def delete(webhook_id: WebhookId, parts: PartsDep, caller: Administrator) -> None:
    """Take a webhook away, and what was still to be told to it."""
    with parts.database.transaction() as session:
        actions.delete(session, caller, webhook_id)


@router.post(
    "/{webhook_id}/rotate",
    operation_id="rotateWebhook",
    status_code=201,
    response_model=NewSecretOut,
    responses=responses(403, 404),
)
def rotate(
    webhook_id: WebhookId,
    call: CreatingCallDep,
    parts: PartsDep,
    _: Administrator,
    body: SecretRotationIn | None = None,
) -> Response:
    """The next secret. For the overlap, a day by default, deliveries carry signatures of both."""
    return to_response(actions.rotate(parts, call, webhook_id, body or SecretRotationIn()))


@router.get("/{webhook_id}/deliveries", operation_id="listDeliveries", responses=responses(403, 404))
def deliveries(
    webhook_id: WebhookId, cursor: DeliveryCursor, parts: PartsDep, caller: Administrator
) -> ListOut[DeliveryOut]:
    """What was told to a webhook, and what is to be: newest first, with tries and what they met."""
    with parts.database.reading() as session:
        page = actions.deliveries(session, caller, webhook_id, cursor.after, cursor.limit)
    return cursor.page(page.data, page.next_cursor)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    operation_id="redeliver",
    status_code=202,
    responses=responses(403, 404),
)
def redeliver(webhook_id: WebhookId, delivery_id: DeliveryId, parts: PartsDep, caller: Administrator) -> DeliveryOut:
    """Tell it once more, under the same id."""
    with parts.database.transaction() as session:
        return actions.redeliver(session, caller, webhook_id, delivery_id)
