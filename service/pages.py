"""Lists, a page at a time: `{"object": "list", "data", "has_more", "next_cursor"}` and a Link to the next page."""

from collections.abc import Callable
from typing import Annotated, Generic, Literal, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, Field

from records.pages import MAX_LIMIT
from service.shapes import Shape

Item = TypeVar("Item")


class ListOut(BaseModel, Generic[Item]):
    """One page, and the cursor of the next."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    next_cursor: str | None = Field(description="Send it as `after` to get the next page; null at the end.")


class Cursor:
    """Which page is wanted, and the answer it is written into."""

    def __init__(self, request: Request, response: Response, limit: int, after: str | None) -> None:
        self.request, self.response = request, response
        self.limit, self.after = limit, after

    def page(self, data: list[Item], next_cursor: str | None) -> ListOut[Item]:
        """The list, with its Link header set."""
        link(self.request, self.response, next_cursor)
        return ListOut(data=data, has_more=next_cursor is not None, next_cursor=next_cursor)


def link(request: Request, response: Response, next_cursor: str | None) -> None:
    """Set `Link: <…>; rel="next"` (RFC 8288), keeping the query's other parameters."""
    if next_cursor is not None:
        query = {**dict(request.query_params), "after": next_cursor}
        response.headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'


def _over(kind: str) -> Callable[..., Cursor]:
    """A dependency that takes cursors of one kind: compared with ids of another, any cursor would be the list's end."""
    shape = Shape(rf"^{kind}_[0-9a-f]{{1,64}}$", f"send the next_cursor of this list's page before: it begins {kind}_")

    def given(
        request: Request,
        response: Response,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows a page.")] = 50,
        after: Annotated[Annotated[str, shape] | None, Query(description="`next_cursor` of the page before.")] = None,
    ) -> Cursor:
        return Cursor(request, response, limit, after)

    return given


ModelCursor = Annotated[Cursor, Depends(_over("mod"))]
VersionCursor = Annotated[Cursor, Depends(_over("ver"))]
RequestCursor = Annotated[Cursor, Depends(_over("req"))]
JobCursor = Annotated[Cursor, Depends(_over("job"))]
KeyCursor = Annotated[Cursor, Depends(_over("key"))]
WebhookCursor = Annotated[Cursor, Depends(_over("whk"))]
DeliveryCursor = Annotated[Cursor, Depends(_over("dlv"))]
