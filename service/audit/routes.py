"""/v1/audit"""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse

from records.pages import MAX_LIMIT
from service.audit import actions
from service.audit.schemas import ConsistencyOut, EntryOut, InclusionOut, KeysOut, TreeHeadOut
from service.deps import AuditReader, PartsDep
from service.json_route import JsonRoute
from service.pages import ListOut, link
from service.problems import responses

router = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=JsonRoute)

MOST = 2**62
Size = Annotated[int | None, Query(ge=1, le=MOST, description="The head of this many entries; default: the newest.")]
_TEXT = {200: {"description": "JSON, or text for Accept: text/plain.", "content": {"text/plain": {}}}}


@router.get("/entries", operation_id="listAuditEntries", responses=responses(403))
def entries(
    request: Request,
    response: Response,
    parts: PartsDep,
    caller: AuditReader,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    after: Annotated[int, Query(ge=-1, le=MOST, description="Only entries behind this position.")] = -1,
) -> ListOut[EntryOut]:
    """The tenant's entries, oldest first, with the salts that open their commitments."""
    with parts.database.reading() as session:
        page = actions.entries(session, caller, after, limit)
    link(request, response, page.next_cursor)
    return page


@router.get(
    "/tree-head", operation_id="getTreeHead", response_model=TreeHeadOut, responses=responses(403, 404, also=_TEXT)
)
def tree_head(request: Request, parts: PartsDep, _: AuditReader, size: Size = None) -> TreeHeadOut | Response:
    """The signed head of the log. Keep one: a later head must be proven to extend it."""
    with parts.database.reading() as session:
        head = actions.tree_head(session, parts, size)
    return PlainTextResponse(head.note) if _wants_text(request) else head


@router.get("/proofs", operation_id="getConsistencyProof", responses=responses(403, 404))
def consistency(
    parts: PartsDep,
    _: AuditReader,
    from_size: Annotated[int, Query(alias="from", ge=0, le=MOST, description="Size of the head you kept.")],
    size: Size = None,
) -> ConsistencyOut:
    """A proof that nothing before a head you kept was changed or taken out."""
    with parts.database.reading() as session:
        return actions.consistency(session, parts, from_size, size)


@router.get(
    "/proofs/{position}",
    operation_id="getInclusionProof",
    response_model=InclusionOut,
    responses=responses(403, 404, also=_TEXT),
)
def inclusion(
    position: Annotated[int, Path(ge=0, le=MOST)],
    request: Request,
    parts: PartsDep,
    caller: AuditReader,
    size: Size = None,
) -> InclusionOut | Response:
    """A proof that an entry is in the log; `Accept: text/plain` gives it as a tlog-proof for offline verifiers."""
    with parts.database.reading() as session:
        proof = actions.inclusion(session, parts, caller, position, size)
    return PlainTextResponse(actions.proof_text(proof)) if _wants_text(request) else proof


@router.get("/keys", operation_id="getPublicKeys", responses=responses(403))
def keys(parts: PartsDep, _: AuditReader) -> KeysOut:
    """The public keys that heads, attestations and model signatures verify against."""
    return actions.keys(parts)


def _wants_text(request: Request) -> bool:
    return request.headers.get("accept", "").startswith("text/plain")
