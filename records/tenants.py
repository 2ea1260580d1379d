"""Tenants and API keys. `visible` is the only tenant filter; a house rule forbids writing it by hand."""

import hashlib
import math
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar, get_args

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit
from records.base import utc_now
from records.errors import LetheError, NotFound, invalid_field
from records.rows import ApiKeyRow, TenantRow

Scope = Literal["requests:write", "requests:read", "models:write", "models:read", "review", "audit:read", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
HINT_CHARACTERS = len("lethe_12345678")
Found = TypeVar("Found")


class Unauthorized(LetheError):
    """No key or token, or one that is unknown, expired or revoked."""

    code = "unauthorized"
    status = 401


class Forbidden(LetheError):
    """The key or token is good but lacks the scope."""

    code = "forbidden"
    status = 403


@dataclass(frozen=True)
class Caller:
    """Who is calling: the only thing actions know about authentication.

    `key_id` is the API key's id, or for a token a keyed hash of its holder: the audit log names nobody. `until_seconds`
    is when a token ends, since the epoch; when a key does stands in its row, and may change.
    """

    tenant_id: str
    key_id: str
    scopes: frozenset[str]
    kind: Literal["key", "token"] = "key"
    until_seconds: float = math.inf

    @property
    def actor(self) -> str:
        return f"{self.kind}:{self.key_id}"

    def require(self, scope: Scope) -> None:
        """Raises Forbidden unless the key holds `scope` (or `admin`)."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(
                f"This {self.kind} lacks the scope {scope}. Create one that has it: lethe key create --scope {scope}"
            )


def visible(query: sa.Select[Any], row: type[Any], tenant_id: str) -> sa.Select[Any]:
    """Limit `query` over `row` to what the tenant may see."""
    return query.where(row.tenant_id == tenant_id)


def find(
    session: Session, row: type[Found], tenant_id: str, *where: sa.ColumnElement[bool], lock: bool = False
) -> Found:
    """The one visible row that fits. Raises NotFound, the same for a foreign row as for none."""
    query = visible(sa.select(row), row, tenant_id).where(*where)
    found: Found | None = session.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise NotFound(f"No such {_spoken(row)}. Check the name or id, and that this key belongs to its tenant.")
    return found


def create_tenant(session: Session, name: str) -> TenantRow:
    tenant = TenantRow(name=name)
    session.add(tenant)
    session.flush()
    audit.record(session, "tenant.created", tenant.id, "operator", audit.About(), {})
    return tenant


def tenant_named(session: Session, name: str) -> TenantRow | None:
    return session.scalar(sa.select(TenantRow).where(TenantRow.name == name))


def count_alone(session: Session, tenant_id: str) -> None:
    """Until the transaction ends: two calls at once cannot both be the last one that fits.

    Not FOR UPDATE: it would wait for, and keep waiting, every row that comes to refer to the tenant; a worker's too.
    """
    session.execute(sa.select(TenantRow.id).where(TenantRow.id == tenant_id).with_for_update(key_share=True))


def create_key(
    session: Session,
    tenant_id: str,
    name: str,
    scopes: list[str],
    expires_at: datetime | None = None,
    actor: str = "operator",
) -> tuple[ApiKeyRow, str]:
    """A new key. The plain key is returned once and never stored: `lethe_<8 characters>_<secret>`."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise invalid_field("/scopes", f"Unknown or no scopes: {unknown}. Choose from {', '.join(SCOPES)}.")
    plain = f"lethe_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"
    key = ApiKeyRow(
        tenant_id=tenant_id,
        name=name,
        digest=_digest(plain),
        hint=plain[:HINT_CHARACTERS],
        scopes=scopes,
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    audit.record(session, "key.created", tenant_id, actor, audit.About(), {"key": key.id, "scopes": scopes})
    return key, plain


def authenticate(session: Session, plain: str) -> Caller:
    """The caller behind a plain key. Raises Unauthorized without saying whether the key ever existed."""
    key = session.scalar(sa.select(ApiKeyRow).where(ApiKeyRow.digest == _digest(plain)))
    expired = key is not None and key.expires_at is not None and key.expires_at <= utc_now()
    if key is None or key.revoked_at is not None or expired:
        raise Unauthorized("The API key is unknown, expired or revoked. Create one with: lethe key create")
    return Caller(key.tenant_id, key.id, frozenset(key.scopes))


def _digest(plain: str) -> bytes:
    return hashlib.sha256(plain.encode()).digest()


def _spoken(row: type[Any]) -> str:
    """The row's table in the singular, in words."""
    words = str(row.__tablename__).replace("_", " ")
    return words.removesuffix("ies") + "y" if words.endswith("ies") else words.removesuffix("s")
