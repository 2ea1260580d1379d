"""Who calls: an API key, or a token of the configured identity provider.

Every path asks for one, the paths that do not exist too, unless it is in `OPEN`; a route then names its scope.
"""

import threading
import time
from collections.abc import Callable

import structlog
from anyio import to_thread
from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from records import api_keys, tenants
from records.database import DatabaseTrouble
from records.errors import LetheError
from records.parts import Parts
from records.tenants import Caller, Unauthorized
from service import problems
from service.api_page.page import PATHS
from service.oidc import Tokens

OPEN = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"}) | PATHS
BEARER = HTTPBearer(
    auto_error=False, description="An API key, as `lethe key create` prints it, or a token of the identity provider."
)
USE_SECONDS = 60.0


class Authentication:
    """Puts the caller into the request's state before a route, or even its body, is looked at."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self.app = app
        self.parts = parts
        self._tokens = Tokens(parts.settings.oidc, parts.keys.pepper) if parts.settings.oidc.oidc_issuer else None
        self._uses = _Uses(parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        try:
            caller = await to_thread.run_sync(self._caller, _bearer(scope))
        except LetheError as error:
            await problems.of_error(scope, error)(scope, receive, send)
            return
        scope["state"]["caller"] = caller
        await self.app(scope, receive, send)
        if self._uses.is_due(caller):
            await to_thread.run_sync(self._uses.write, caller)

    def _caller(self, given: str) -> Caller:
        if self._tokens is None or given.startswith("lethe_"):
            with self.parts.database.reading() as session:
                return tenants.authenticate(session, given)
        holder = self._tokens.holder(given)
        with self.parts.database.reading() as session:
            tenant = tenants.tenant_named(session, holder.tenant)
        if tenant is None:
            raise Unauthorized("The token names a tenant that is not here. Make it first: lethe key create --tenant.")
        return Caller(tenant.id, holder.reference, holder.scopes, "token", holder.until_seconds)


class _Uses:
    """Writes down when a key was last used: behind the answer, and once a minute for each key."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._written: dict[str, float] = {}

    def is_due(self, caller: Caller) -> bool:
        now = time.monotonic()
        with self._lock:
            due = caller.kind == "key" and now - self._written.get(caller.key_id, -USE_SECONDS) >= USE_SECONDS
            if due:
                self._written[caller.key_id] = now
            return due

    def write(self, caller: Caller) -> None:
        try:
            with self._parts.database.transaction() as session:
                api_keys.mark_used(session, [caller.key_id])
        except DatabaseTrouble as error:  # the call itself has been answered
            structlog.get_logger("lethe.http").warning("use not written", error=type(error).__name__)


def _bearer(scope: Scope) -> str:
    kind, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not key.strip():
        raise Unauthorized("This call needs an API key. Send it as: Authorization: Bearer lethe_...")
    return key.strip()


def needs(scope: tenants.Scope) -> Callable[..., Caller]:
    """A dependency that yields the caller, or refuses (403) one whose key lacks the scope."""

    def caller(request: Request, _shown_in_openapi: object = Depends(BEARER)) -> Caller:
        found: Caller = request.state.caller
        found.require(scope)
        return found

    return caller
