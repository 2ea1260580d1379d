"""API keys. Every path asks for one, the paths that do not exist too, unless it is in `OPEN`; a route then names its
scope.
"""

from collections.abc import Callable

from anyio import to_thread
from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from records import tenants
from records.parts import Parts
from records.tenants import Caller, Unauthorized
from service import problems

OPEN = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"})
BEARER = HTTPBearer(auto_error=False, description="An API key, as `lethe key create` prints it.")


class Authentication:
    """Puts the caller into the request's state before a route, or even its body, is looked at."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self.app = app
        self.parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN:
            try:
                scope["state"]["caller"] = await to_thread.run_sync(self._caller, _bearer(scope))
            except Unauthorized as error:
                await problems.of_error(scope, error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _caller(self, key: str) -> Caller:
        with self.parts.database.reading() as session:
            return tenants.authenticate(session, key)


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
