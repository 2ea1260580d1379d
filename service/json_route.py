"""JSON bodies are parsed with a depth limit, without NaN or infinity, before anything else looks at them."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json


class _JsonRequest(Request):
    async def json(self) -> Any:
        """The body as Python values. pydantic-core stops at 200 levels, where the standard library would recurse on."""
        if not hasattr(self, "_parsed"):
            try:
                self._parsed = from_json(await self.body(), allow_inf_nan=False)
            except ValueError as error:
                raise json.JSONDecodeError(str(error), "", 0) from None  # what FastAPI answers with a 422
        return self._parsed


class JsonRoute(APIRoute):
    """The route class of every resource."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handler
