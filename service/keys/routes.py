"""/v1/keys"""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from service.deps import Administrator, PartsDep
from service.idempotency import CreatingCallDep, to_response
from service.json_route import JsonRoute
from service.keys import actions
from service.keys.schemas import KeyIn, KeyOut, NewKeyOut, RotationIn
from service.pages import KeyCursor, ListOut
from service.problems import responses
from service.shapes import Id

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=JsonRoute)

KeyId = Annotated[Id, Path()]


@router.post("", operation_id="createKey", status_code=201, response_model=NewKeyOut, responses=responses(403))
def create(body: KeyIn, call: CreatingCallDep, parts: PartsDep, _: Administrator) -> Response:
    """Make a key of the tenant's. The answer holds it, once; Lethe keeps its digest only."""
    return to_response(actions.create(parts, call, body))


@router.get("", operation_id="listKeys", responses=responses(403))
def index(cursor: KeyCursor, parts: PartsDep, caller: Administrator) -> ListOut[KeyOut]:
    """The tenant's keys, newest first, expired and revoked ones too."""
    with parts.database.reading() as session:
        page = actions.listed(session, caller, cursor.after, cursor.limit)
    return cursor.page(page.data, page.next_cursor)


@router.get("/{key_id}", operation_id="getKey", responses=responses(403, 404))
def show(key_id: KeyId, parts: PartsDep, caller: Administrator) -> KeyOut:
    """One key: its scopes, when it expires, when it was last used."""
    with parts.database.reading() as session:
        return actions.show(session, caller, key_id)


@router.post(
    "/{key_id}/rotate",
    operation_id="rotateKey",
    status_code=201,
    response_model=NewKeyOut,
    responses=responses(403, 404, 409),
)
def rotate(
    key_id: KeyId, call: CreatingCallDep, parts: PartsDep, _: Administrator, body: RotationIn | None = None
) -> Response:
    """A new key with the same name and scopes; the old one goes on opening for the overlap, a day by default."""
    return to_response(actions.rotate(parts, call, key_id, body or RotationIn()))


@router.delete("/{key_id}", operation_id="revokeKey", status_code=204, responses=responses(403, 404, 409))
def revoke(key_id: KeyId, parts: PartsDep, caller: Administrator) -> None:
    """Shut a key now. It stays in the list. A key cannot revoke itself."""
    with parts.database.transaction() as session:
        actions.revoke(session, caller, key_id)
