"""What surrounds every call: a request id, one log line, a measured time, a body limit, and no leaking exception.

Plain ASGI layers, outermost first: RequestContext, BodyLimit, Authentication (service/auth.py), RateLimit
(service/limits.py). The log line
names the route's template, never the path with its query, and of an unexpected exception only its class and place.
"""

import re
import secrets
import time
import traceback
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from records.errors import TooLarge
from service import problems

Observe = Callable[[str, str, int, float], None]
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_CLIENT_LEFT = 499  # nginx's number for it; never sent


class RequestContext:
    """Gives the call its id, logs it once, and turns whatever nobody caught into a plain 500."""

    def __init__(self, app: ASGIApp, observe: Observe) -> None:
        self.app = app
        self.observe = observe
        self.log = structlog.get_logger("lethe.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        sent = _Sent(send, request_id)
        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._answer(scope, receive, sent)
            self._finish(scope, sent.status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, sent: "_Sent") -> None:
        try:
            await self.app(scope, receive, sent)
        except ClientDisconnect:
            sent.status = sent.status or _CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 - the one place that must know every exception
            self.log.error("unexpected", error=type(error).__name__, places=places(error))  # noqa: TRY400 - no text
            # Too late for a problem once bytes went out: the server sees an unfinished answer and cuts the connection,
            # which tells the client that what it holds is not whole.
            if not sent.status:
                await problems.unexpected(scope)(scope, receive, sent)

    def _finish(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self.observe(scope["method"], route, status, seconds)
        caller = scope["state"].get("caller")
        who = {"tenant_id": caller.tenant_id, "key_id": caller.key_id} if caller else {}
        self.log.info("call", method=scope["method"], route=route, status=status, seconds=round(seconds, 4), **who)


class _Sent:
    """`send`, with the request id added and the status remembered."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Cache-Control", "no-store")  # what is not an immutable file may concern a person
        await self._send(message)


class BodyLimit:
    """Refuses a body over its limit: by its declared length at once, and while it streams in."""

    def __init__(self, app: ASGIApp, limit_bytes: Callable[[Scope], int]) -> None:
        self.app = app
        self.limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limit_bytes(scope)
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            await problems.of_error(scope, _too_large(limit))(scope, receive, send)
            return
        await self.app(scope, _counted(receive, limit), send)


def _counted(receive: Receive, limit: int) -> Receive:
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > limit:
            raise HTTPException(413, _too_large(limit).detail)
        return message

    return counted


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than the {limit_bytes} bytes this call takes. Send it in smaller parts.")


def places(error: BaseException) -> list[str]:
    """Where an exception came from, file:line:function, without its text or any value."""
    frames = traceback.extract_tb(error.__traceback__)[-12:]
    return [f"{frame.filename.rsplit('/', 2)[-1]}:{frame.lineno}:{frame.name}" for frame in frames]


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
