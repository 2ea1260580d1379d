"""/v1/models"""

from functools import partial

from fastapi import APIRouter, Request, Response

from service.deps import ModelName, ModelsReader, ModelsWriter, PartsDep, PoliciesDep
from service.idempotency import CreatingCallDep, to_response
from service.json_route import JsonRoute
from service.limits import in_its_turn
from service.models import actions
from service.models.schemas import ModelChangeIn, ModelIn, ModelOut
from service.pages import ListOut, ModelCursor
from service.problems import responses

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=JsonRoute)


@router.post(
    "",
    operation_id="createModel",
    status_code=201,
    response_model=ModelOut,
    responses=responses(403, 404, 409, 507),
)
async def create(
    body: ModelIn, call: CreatingCallDep, request: Request, parts: PartsDep, policies: PoliciesDep, caller: ModelsWriter
) -> Response:
    """Import a folder of safetensors weights, with config and tokenizer, as version 1 of a new model.

    The folder must lie under one of the server's import roots. Pickles, Python files and configs that ask for code of
    their own are refused. The files are copied: changing the folder later changes nothing here.
    """
    register = partial(actions.register, parts, policies, call, body)  # it copies and reads all weights
    return to_response(await in_its_turn(request, caller, register))


@router.get("", operation_id="listModels", responses=responses(403))
def index(cursor: ModelCursor, parts: PartsDep, caller: ModelsReader) -> ListOut[ModelOut]:
    """The tenant's models, newest first."""
    with parts.database.reading() as session:
        page = actions.listed(session, caller, cursor.after, cursor.limit)
    return cursor.page(page.data, page.next_cursor)


@router.get("/{namespace}/{name}", operation_id="getModel", responses=responses(403, 404))
def show(model: ModelName, parts: PartsDep, caller: ModelsReader) -> ModelOut:
    """One model: its head version, its datasets, its requests by state."""
    with parts.database.reading() as session:
        return actions.show(session, caller, model)


@router.patch("/{namespace}/{name}", operation_id="changeModel", responses=responses(403, 404))
def change(
    model: ModelName, body: ModelChangeIn, parts: PartsDep, policies: PoliciesDep, caller: ModelsWriter
) -> ModelOut:
    """Name another reference, or other defaults. They count for jobs that start and requests that come from now on."""
    with parts.database.transaction() as session:
        return actions.change(session, policies, caller, model, body)
