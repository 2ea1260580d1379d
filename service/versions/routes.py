"""/v1/models/{namespace}/{name}/versions"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from service.deps import ModelName, ModelsReader, PartsDep
from service.json_route import JsonRoute
from service.pages import ListOut, VersionCursor
from service.problems import responses
from service.versions import actions, download
from service.versions.schemas import ManifestOut, VersionOut

router = APIRouter(prefix="/v1/models/{namespace}/{name}/versions", tags=["versions"], route_class=JsonRoute)

Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="The version's number.")]
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_FILE: dict[int, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"application/octet-stream": {}}},
    206: {"description": "The range asked for.", "content": {"application/octet-stream": {}}},
    304: {"description": "You have this file."},
    307: {"description": "The file is at Location for a few minutes; ask there, without your key."},
}


@router.get("", operation_id="listVersions", responses=responses(403, 404))
def index(model: ModelName, cursor: VersionCursor, parts: PartsDep, caller: ModelsReader) -> ListOut[VersionOut]:
    """The model's versions, newest first, with their parents and the requests they include."""
    with parts.database.reading() as session:
        page = actions.listed(session, caller, model, cursor.after, cursor.limit)
    return cursor.page(page.data, page.next_cursor)


@router.get("/{number}", operation_id="getVersion", responses=responses(403, 404))
def show(model: ModelName, number: Number, parts: PartsDep, caller: ModelsReader) -> VersionOut:
    """One version."""
    with parts.database.reading() as session:
        return actions.show(session, caller, model, number)


@router.get("/{number}/files", operation_id="listVersionFiles", responses=responses(403, 404))
def files(model: ModelName, number: Number, parts: PartsDep, caller: ModelsReader) -> ManifestOut:
    """The manifest: path, digest and size of every file. Only published and superseded versions hand out files."""
    with parts.database.reading() as session:
        found = actions.manifest(session, parts.store, caller, model, number)
    return actions.manifest_out(found, model, number)


@router.head("/{number}/files/{path:path}", include_in_schema=False)
@router.get(
    "/{number}/files/{path:path}",
    operation_id="getVersionFile",
    response_class=Response,
    responses=responses(403, 404, 416, also=_FILE),
)
def file(
    model: ModelName, number: Number, path: str, request: Request, parts: PartsDep, caller: ModelsReader
) -> Response:
    """One file. Strong ETag, Range, If-Range, If-None-Match, HEAD; Repr-Digest is the SHA-256 of the whole file.

    A file whose bytes changed on the server's disk is never handed out to its end. Where the operator has set it up so,
    the answer is a 307 to the object store: compare what comes from there with the manifest's digest.
    """
    with parts.database.reading() as session:
        entry = actions.file(session, parts.store, caller, model, number, path)
    return download.answer(request, parts.store, entry, request.app.state.verified)


@router.get(
    "/{number}/attestation", operation_id="getVersionAttestation", response_class=Response,
    responses=responses(403, 404, also={200: {"description": "A sigstore bundle.", "content": {_BUNDLE: {}}}}),
)  # fmt: skip
def attestation(model: ModelName, number: Number, parts: PartsDep, caller: ModelsReader) -> Response:
    """The signed statement: which requests, method, numbers and verdict led from the parent to these files."""
    with parts.database.reading() as session:
        bundle = actions.attestation(session, parts.store, caller, model, number)
    return Response(bundle, media_type=_BUNDLE)


@router.get(
    "/{number}/model.sig", operation_id="getVersionSignature", response_class=Response,
    responses=responses(403, 404, also={200: {"description": "A sigstore bundle.", "content": {_BUNDLE: {}}}}),
)  # fmt: skip
def signature(model: ModelName, number: Number, parts: PartsDep, caller: ModelsReader) -> Response:
    """The OpenSSF model signature over all files; `model_signing verify key` checks it."""
    with parts.database.reading() as session:
        bundle = actions.signature(session, parts.store, caller, model, number)
    return Response(bundle, media_type=_BUNDLE)
