"""What a call says is looked at before anything is done: a query it does not have and a body that is not declared as
JSON are refused; a JSON body is measured before it is parsed, and parsed without NaN or infinity.
"""

import json
import re
from collections.abc import Callable, Coroutine
from itertools import accumulate
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json

from service import utf8
from service.problems import PLAIN_NAME, UnsupportedMedia

MOST_DEPTH = 32
MOST_VALUES = 1_000_000
_JSON_TYPE = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in _STEP)


class _JsonRequest(Request):
    async def json(self) -> Any:
        """The body as Python values."""
        if not hasattr(self, "_parsed"):
            body = (await self.body()).removeprefix(utf8.MARK)
            problem = too_much(body)
            try:
                self._parsed = None if problem else from_json(body, allow_inf_nan=False)
            except ValueError as error:
                problem = str(error) if utf8.is_utf8(body) else "it is not UTF-8; save it as UTF-8, and send it again"
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
        known, takes_json = _query_names(self.dependant), self.body_field is not None

        async def handler(request: Request) -> Response:
            _check_query(request, known)
            given = _JsonRequest(request.scope, request.receive)
            if takes_json:
                await _check_media_type(given)
            return await handle(given)

        return handler


def _query_names(dependant: Dependant) -> list[str]:
    """The query parameters that a call reads, by itself or by what it depends on."""
    own = [field.alias for field in dependant.query_params]
    return own + [name for one in dependant.dependencies for name in _query_names(one)]


def _check_query(request: Request, known: list[str]) -> None:
    """Raises RequestValidationError: a filter that is misspelt must not give everything."""
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        listed = f"this call takes {', '.join(known)}" if known else "this call takes none"
        said = f"There is no such query parameter; {listed}"
        places = [("query", name) if PLAIN_NAME.fullmatch(name) else ("query",) for name in unknown]
        raise RequestValidationError([{"type": "unknown_query", "loc": place, "msg": said} for place in places])


async def _check_media_type(request: Request) -> None:
    """Raises UnsupportedMedia (415) for a body that is not declared as JSON, or is compressed. Where there is none,
    nothing need be declared.
    """
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json, coding = _JSON_TYPE.fullmatch(declared), request.headers.get("content-encoding", "identity")
    if (is_json and coding.lower() == "identity") or not await request.body():
        return
    if not is_json:
        raise UnsupportedMedia("Send JSON with Content-Type: application/json.")
    raise UnsupportedMedia("Send the JSON uncompressed: leave Content-Encoding out.")
