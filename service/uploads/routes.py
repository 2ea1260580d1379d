"""/v1/uploads"""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service.datasets.streaming import blocking_pieces
from service.deps import ModelsReader, ModelsWriter, PartsDep
from service.idempotency import CreatingCallDep, to_response
from service.json_route import JsonRoute
from service.limits import in_its_turn
from service.problems import responses
from service.shapes import Id
from service.uploads import actions
from service.uploads.schemas import FileOut, UploadIn, UploadOut

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=JsonRoute)

UploadId = Annotated[Id, Path()]
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("", operation_id="createUpload", status_code=201, response_model=UploadOut, responses=responses(403))
def create(body: UploadIn, call: CreatingCallDep, parts: PartsDep, _: ModelsWriter) -> Response:
    """Announce the files of a model's folder, with their digests; then PUT each; then POST the model.

    Only what an import takes is taken: safetensors, configs, tokenizer files, chat templates. An upload that is not
    made a model of expires.
    """
    return to_response(actions.begin(parts, call, body))


@router.get("/{upload_id}", operation_id="getUpload", responses=responses(403, 404))
def show(upload_id: UploadId, parts: PartsDep, caller: ModelsReader) -> UploadOut:
    """Which files have come, and which have not: whoever was interrupted sends the others."""
    with parts.database.reading() as session:
        return actions.show(session, caller, upload_id)


@router.put(
    "/{upload_id}/files/{path:path}",
    operation_id="putUploadFile",
    responses=responses(403, 404, 408, 413, 507),
    openapi_extra=_BODY,
)
async def put(upload_id: UploadId, path: str, request: Request, parts: PartsDep, caller: ModelsWriter) -> FileOut:
    """One file, whole. Other bytes than were announced are refused, and nothing of them is kept."""
    take_in = partial(actions.take_in, parts, caller, upload_id, path, blocking_pieces(request))
    return await in_its_turn(request, caller, take_in)


@router.delete("/{upload_id}", operation_id="deleteUpload", status_code=204, responses=responses(403, 404))
def delete(upload_id: UploadId, parts: PartsDep, caller: ModelsWriter) -> None:
    """Give it up."""
    with parts.database.transaction() as session:
        actions.give_up(session, caller, upload_id)
