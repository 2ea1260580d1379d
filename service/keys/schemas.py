"""API keys on the wire."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from records.api_keys import MOST_OVERLAP
from records.tenants import Scope
from service.shapes import Shape

_STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
_DAY = int(timedelta(days=1).total_seconds())
KeyName = Annotated[
    str,
    Shape(
        r"^[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,63}$",
        "write letters, digits, spaces, '.', '_', ':', '/' and '-', 64 at most, the first a letter or a digit, such as "
        "fides connector",
    ),
]
ExpiresAt = Annotated[
    AwareDatetime | None, Field(description="When the key stops opening anything; for ever open without.")
]


class KeyIn(BaseModel):
    """A key for one purpose, with the scopes it needs and no more."""

    model_config = _STRICT

    name: KeyName = Field(description="What the key is for; no names of persons.", examples=["fides connector"])
    scopes: list[Scope] = Field(min_length=1, max_length=16)
    expires_at: ExpiresAt = None


class RotationIn(BaseModel):
    """How long the old key goes on opening beside the new one."""

    model_config = _STRICT

    overlap_seconds: int = Field(
        default=_DAY,
        ge=0,
        le=int(MOST_OVERLAP.total_seconds()),
        description="0 shuts the old key at once: for one that leaked.",
    )
    expires_at: ExpiresAt = None


class KeyOut(BaseModel):
    object: Literal["api_key"] = "api_key"
    id: str
    name: str
    hint: str | None = Field(description="How the key begins; the rest is a secret that is stored nowhere.")
    scopes: list[str]
    state: Literal["active", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    replaced_by: str | None = Field(description="The key that this one was rotated to.")
    links: dict[str, str]


class NewKeyOut(KeyOut):
    """The answer that holds the key itself, once."""

    key: str | None = Field(
        description="The key. Shown in this answer only; null where an Idempotency-Key repeats the call."
    )
