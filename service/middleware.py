"""What surrounds every call: a request id, one log line, a measured time, limits of its body, no leaking exception.

Plain ASGI layers, outermost first: RequestContext, BodyLimit, Authentication (service/auth.py), RateLimit
(service/limits.py). The log line
names the route's template, never the path with its query, and of an unexpected exception only its class and place.
"""

import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import anyio
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from records import tracing
from records.database import is_away
from records.errors import TooLarge
from records.logs import places
from service import problems

Observe = Callable[[str, str, int, float], None]
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_ID = re.compile(r"[a-z]{3}_[0-9a-f]{32}")
_IDS = {"request_id": "erasure_request", "job_id": "job_id"}  # in paths; a call's own id is called request_id in logs
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_CLIENT_LEFT = 499  # nginx's number for it; never sent


class RequestContext:
    """Gives the call its id, logs it once, and turns whatever nobody caught into a plain 500, or 503 while the database
    is away.
    """

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
        with structlog.contextvars.bound_contextvars(request_id=request_id), _traced(scope, request_id) as span:
            await self._answer(scope, receive, sent)
            self._finish(scope, sent.status, time.perf_counter() - began, span)

    async def _answer(self, scope: Scope, receive: Receive, sent: "_Sent") -> None:
        try:
            await self.app(scope, receive, sent)
        except ClientDisconnect:
            sent.status = sent.status or _CLIENT_LEFT
        except Exception as error:  # noqa: BLE001 - the one place that must know every exception
            away = is_away(error)
            event = "database_away" if away else "unexpected"
            self.log.error(event, error=type(error).__name__, places=places(error))  # noqa: TRY400 - no text
            # Too late for a problem once bytes went out: the server sees an unfinished answer and cuts the connection,
            # which tells the client that what it holds is not whole.
            if not sent.status:
                answer = problems.database_away if away else problems.unexpected
                await answer(scope)(scope, receive, sent)

    def _finish(self, scope: Scope, status: int, seconds: float, span: tracing.Span) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.observe(method, route, status, seconds)
        caller = scope["state"].get("caller")
        ids = {"tenant_id": caller.tenant_id, "key_id": caller.key_id} if caller else {}
        ids |= {_IDS[name]: value for name, value in scope.get("path_params", {}).items() if _is_id(name, value)}
        self.log.info("call", method=method, route=route, status=status, seconds=round(seconds, 4), **ids)
        told = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        span.tell({**told, **{f"lethe.{name}": value for name, value in ids.items()}}, f"{method} {route}")


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
    """Refuses a body over its limit: by its declared length at once, and while it streams in. And one of which
    nothing came for `stall_seconds` while we waited for it.
    """

    def __init__(self, app: ASGIApp, limit_bytes: Callable[[Scope], int], stall_seconds: float) -> None:
        self.app = app
        self.limit_bytes = limit_bytes
        self.stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limit_bytes(scope)
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            await problems.of_error(scope, _too_large(limit))(scope, receive, send)
            return
        await self.app(scope, _counted(_awake(receive, self.stall_seconds), limit), send)


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


def _awake(receive: Receive, seconds: float) -> Receive:
    is_whole = False  # behind the body nothing comes but the news that the caller has left

    async def awake() -> Message:
        nonlocal is_whole
        try:
            with anyio.fail_after(None if is_whole else seconds):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, _stalled(seconds), {"Connection": "close"}) from None
        is_whole = not message.get("more_body", False)
        return message

    return awake


def _stalled(seconds: float) -> str:
    return f"Nothing of the body came for {seconds:g} seconds, and nothing of it is kept. Send the call again."


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than the {limit_bytes} bytes this call takes. Send it in smaller parts.")


def _traced(scope: Scope, request_id: str) -> AbstractContextManager[tracing.Span]:
    """The call's span, below its caller's if it names one. Whoever only looks whether we live leaves no trace."""
    if scope["path"] in _PROBES:
        return nullcontext(tracing.Span())
    return tracing.span("HTTP", {"lethe.call_id": request_id}, Headers(scope=scope).get("traceparent"), serves=True)


def _is_id(name: str, value: object) -> bool:
    return name in _IDS and isinstance(value, str) and _ID.fullmatch(value) is not None


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
