"""Webhooks on the wire."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from records.addresses import MOST_CHARACTERS
from records.states import RequestState, VersionState
from records.webhooks import EVERY
from service.shapes import Shape

_STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
_DAY = int(timedelta(days=1).total_seconds())
EVENT_TYPES = tuple(
    sorted([*(f"erasure_request.{state}" for state in RequestState), *(f"version.{state}" for state in VersionState)])
)
EventType = Annotated[
    str,
    Shape(
        rf"^({'|'.join([*map(re.escape, EVENT_TYPES), re.escape(EVERY)])})$",
        f"name an event, such as {EVENT_TYPES[0]}, or {EVERY} for all: {', '.join(EVENT_TYPES)}",
    ),
]
Url = Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)]


class WebhookIn(BaseModel):
    """Where to tell what. The address must be public and https://."""

    model_config = _STRICT

    url: Url = Field(examples=["https://example.com/hooks/lethe"])
    events: list[EventType] = Field(
        default=[EVERY], min_length=1, max_length=len(EVENT_TYPES), description=f"{', '.join(EVENT_TYPES)}, or {EVERY}."
    )


class SecretRotationIn(BaseModel):
    """How long deliveries carry the old secret's signature beside the new one's."""

    model_config = _STRICT

    overlap_seconds: int = Field(default=_DAY, ge=0, le=30 * _DAY)


class WebhookOut(BaseModel):
    object: Literal["webhook"] = "webhook"
    id: str
    url: str
    events: list[str]
    state: Literal["enabled", "disabled"] = Field(description="disabled: it answered 410. Rotating enables it again.")
    created_at: datetime
    verifying_key: str = Field(description="Ed25519 key of the signatures v1a, the same for all webhooks.")
    links: dict[str, str]


class NewSecretOut(WebhookOut):
    """The answer that holds the secret, once."""

    secret: str | None = Field(
        description="Key of the signatures v1. Shown in this answer only; null where an Idempotency-Key repeats it."
    )


class DeliveryOut(BaseModel):
    """One thing told, or to be told. Its id is the `webhook-id` of every try."""

    object: Literal["delivery"] = "delivery"
    id: str
    type: str
    data: dict[str, Any]
    state: Literal["waiting", "delivered", "given_up"]
    attempts: int
    next_at: datetime | None
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None = Field(description="status, timeout, address_refused, certificate, connection, …")
    created_at: datetime
