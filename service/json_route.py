"""JSON bodies are measured before they are parsed, and parsed without NaN or infinity before anything looks at them."""

import json
import re
from collections.abc import Callable, Coroutine
from itertools import accumulate
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

MOST_DEPTH = 32
MOST_VALUES = 1_000_000
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in _STEP)


class _JsonRequest(Request):
    async def json(self) -> Any:
        """The body as Python values."""
        if not hasattr(self, "_parsed"):
            body = await self.body()
            problem = too_much(body)
            try:
                self._parsed = None if problem else from_json(body, allow_inf_nan=False)
            except ValueError as error:
                problem = str(error)
            if problem:
                raise json.JSONDecodeError(problem, "", 0) from None  # what FastAPI answers with a 422
        return self._parsed


def too_much(body: bytes) -> str | None:
    """Why a body is not parsed: a few megabytes of brackets become gigabytes of objects."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") <= MOST_DEPTH:
        return None
    bare = _STRING.sub(b"", body)
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > MOST_VALUES:
        return f"it holds more than {MOST_VALUES} values; send it in parts"
    brackets = bare.translate(None, _NOT_BRACKETS)
    if max(accumulate(_STEP[byte] for byte in brackets), default=0) > MOST_DEPTH:
        return f"it is nested more than {MOST_DEPTH} levels deep"
    return None


class JsonRoute(APIRoute):
    """The route class of every resource."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handler
