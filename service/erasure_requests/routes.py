"""/v1/erasure-requests"""

from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, BackgroundTasks, Depends, Header, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from records.states import RequestState
from service.deps import IfMatch, PartsDep, PoliciesDep, RequestsReader, RequestsWriter, Reviewer
from service.erasure_requests import actions, stream, submission, wire
from service.erasure_requests.schemas import (
    ErasureRequestIn,
    ErasureRequestOut,
    EventOut,
    OptionalReasonIn,
    ReasonIn,
    ReportOut,
)
from service.idempotency import CreatingCallDep, to_response
from service.json_route import JsonRoute
from service.limits import in_its_turn
from service.pages import ListOut, RequestCursor
from service.problems import responses
from service.report_page.page import HEADERS, page, prefers_html
from service.shapes import Id, Name

router = APIRouter(prefix="/v1/erasure-requests", tags=["erasure requests"], route_class=JsonRoute)

RequestId = Annotated[Id, Path()]
Position = Annotated[int, Query(ge=-1, le=2**62, description="Only events behind this id.")]
_PAGE = {200: {"description": "JSON, or a page.", "content": {"text/html": {"schema": {"type": "string"}}}}}
_SSE = {200: {"description": "A list, or a stream.", "content": {"text/event-stream": {}}}}


@router.post(
    "",
    operation_id="createErasureRequest",
    status_code=202,
    response_model=ErasureRequestOut,
    responses=responses(403, 404, 507),
)
async def submit(
    body: ErasureRequestIn,
    call: CreatingCallDep,
    request: Request,
    parts: PartsDep,
    policies: PoliciesDep,
    caller: RequestsWriter,
    later: BackgroundTasks,
) -> Response:
    """Ask a model to forget.

    Everything is checked first; what cannot be used is refused with a pointer, and nothing is stored. Then the forget
    set is encrypted under a key of its own, and the request is queued behind the model's others. A `subject` that is in
    no training row completes at once with the outcome `no_match`.
    """
    take_in = partial(submission.submit, parts, policies, call, body)
    # A subject is looked up in the whole training dataset.
    looks_up = body.subject is not None
    answer = await (in_its_turn(request, caller, take_in) if looks_up else to_thread.run_sync(take_in))
    later.add_task(submission.relay_hints, parts)
    response = to_response(answer, {"Retry-After": str(submission.RETRY_AFTER_SECONDS)})
    response.background = later
    return response


@router.get("", operation_id="listErasureRequests", responses=responses(403, 404))
def index(
    cursor: RequestCursor,
    parts: PartsDep,
    caller: RequestsReader,
    model: Annotated[Name | None, Query(description="Only requests to this model.")] = None,
    state: Annotated[RequestState | None, Query(description="Only requests in this state.")] = None,
) -> ListOut[ErasureRequestOut]:
    """The tenant's requests, newest first."""
    with parts.database.reading() as session:
        page = actions.listed(session, caller, model, state, cursor.after, cursor.limit)
    return cursor.page(page.data, page.next_cursor)


@router.get("/{request_id}", operation_id="getErasureRequest", responses=responses(403, 404))
def show(request_id: RequestId, response: Response, parts: PartsDep, caller: RequestsReader) -> ErasureRequestOut:
    """One request: state, outcome, place in the queue, progress, deadline. The ETag goes into If-Match of an action."""
    with parts.database.reading() as session:
        row = actions.visible(session, caller, request_id)
        return _answer(response, wire.etag(row), wire.shown(session, [row])[0])


@router.get(
    "/{request_id}/events",
    operation_id="listErasureRequestEvents",
    response_model=ListOut[EventOut],
    responses=responses(403, 404, also=_SSE),
    dependencies=[Depends(stream.place)],
)
def events(
    request_id: RequestId,
    request: Request,
    parts: PartsDep,
    caller: RequestsReader,
    after: Position = -1,
    last_event_id: Annotated[int | None, Header(ge=-1, le=2**62, description="For a stream: resume behind it.")] = None,
) -> ListOut[EventOut] | Response:
    """What happened, oldest first. `Accept: text/event-stream` streams it live until the request has ended, or the key
    or token opens nothing any more.
    """
    with parts.database.reading() as session:
        found = actions.events(session, caller, request_id, after, actions.MOST_EVENTS)
    if not stream.is_wanted(request):
        has_more = len(found) == actions.MOST_EVENTS
        return ListOut(data=found, has_more=has_more, next_cursor=str(found[-1].id) if has_more else None)
    begin = after if last_event_id is None else last_event_id
    frames = stream.events(parts, caller, request_id, begin, request.app.state.looks)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(frames, headers=headers, media_type="text/event-stream")


@router.post("/{request_id}/cancel", operation_id="cancelErasureRequest", responses=responses(403, 404, 409, 412))
def cancel(
    request_id: RequestId,
    response: Response,
    parts: PartsDep,
    caller: RequestsWriter,
    body: OptionalReasonIn | None = None,
    if_match: IfMatch = None,
) -> ErasureRequestOut:
    """Cancel. What waits ends at once; a running job stops at its next step, and the model stays as it was."""
    with parts.database.transaction() as session:
        row = actions.cancel(session, caller, request_id, if_match, body.reason if body else None)
        session.flush()
        return _answer(response, wire.etag(row), wire.shown(session, [row])[0])


@router.post("/{request_id}/approve", operation_id="approveErasureRequest", responses=responses(403, 404, 409, 412))
def approve(
    request_id: RequestId,
    response: Response,
    parts: PartsDep,
    caller: Reviewer,
    body: OptionalReasonIn | None = None,
    if_match: IfMatch = None,
) -> ErasureRequestOut:
    """Publish the candidate of a request in review. Its attestation is signed again and names the approving key."""
    with parts.database.transaction() as session:
        row = actions.approve(session, parts, caller, request_id, if_match, body.reason if body else None)
        session.flush()
        return _answer(response, wire.etag(row), wire.shown(session, [row])[0])


@router.post("/{request_id}/reject", operation_id="rejectErasureRequest", responses=responses(403, 404, 409, 412))
def reject(
    request_id: RequestId,
    body: ReasonIn,
    response: Response,
    parts: PartsDep,
    caller: Reviewer,
    if_match: IfMatch = None,
) -> ErasureRequestOut:
    """Turn down a candidate in review, or refuse a request that still waits."""
    with parts.database.transaction() as session:
        row = actions.reject(session, caller, request_id, if_match, body.reason)
        session.flush()
        return _answer(response, wire.etag(row), wire.shown(session, [row])[0])


@router.get(
    "/{request_id}/report",
    operation_id="getErasureRequestReport",
    response_model=ReportOut,
    responses=responses(403, 404, also=_PAGE),
)
def report(
    request_id: RequestId,
    request: Request,
    response: Response,
    parts: PartsDep,
    caller: RequestsReader,
    attempt: Annotated[int | None, Query(ge=1, le=1000, description="Not that one but this.")] = None,
) -> ReportOut | Response:
    """The numbers before and after, item by item; and all attempts with verdicts. Of the attempt that was published or
    is for a person to judge; of the newest measured one where neither is.

    `Accept: text/html` gives a page that stands alone, with plots, without the single items.
    """
    with parts.database.reading() as session:
        found = actions.report(session, caller, request_id, attempt)
        row = actions.visible(session, caller, request_id)
        shown = wire.shown(session, [row])[0]
    response.headers["Vary"] = HEADERS["Vary"]
    if prefers_html(request.headers.get("accept", "")):
        return HTMLResponse(page(shown, found), headers=HEADERS)
    return found


@router.delete(
    "/{request_id}/payload",
    operation_id="shredErasureRequestPayload",
    status_code=204,
    responses=responses(403, 404, 409, 412),
)
def shred(request_id: RequestId, parts: PartsDep, caller: RequestsWriter, if_match: IfMatch = None) -> None:
    """Destroy all that is held of the forget set: its key and file, and the hashes or canaries that were kept of it.

    Later reports cannot check this request's items again.
    """
    actions.shred(parts, caller, request_id, if_match)


def _answer(response: Response, etag: str, shown: ErasureRequestOut) -> ErasureRequestOut:
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "no-store"
    return shown
