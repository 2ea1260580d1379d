"""/v1/models/{namespace}/{name}/datasets"""

from functools import partial

from fastapi import APIRouter, Request, Response

from service.datasets import actions
from service.datasets.schemas import DatasetList, DatasetOut, Role
from service.datasets.streaming import JSONL_TYPES, blocking_pieces, check_jsonl
from service.deps import ModelName, ModelsReader, ModelsWriter, PartsDep
from service.json_route import JsonRoute
from service.limits import in_its_turn
from service.problems import responses

router = APIRouter(prefix="/v1/models/{namespace}/{name}/datasets", tags=["datasets"], route_class=JsonRoute)

_BODY = {
    "requestBody": {
        "required": True,
        "content": {JSONL_TYPES[0]: {"schema": {"type": "string", "description": "One example (JSON object) a line."}}},
    }
}


@router.put(
    "/{role}",
    operation_id="putDataset",
    responses=responses(
        403, 404, 408, 413, 415, 507, also={201: {"model": DatasetOut, "description": "The first of its role."}}
    ),
    openapi_extra=_BODY,
)
async def put(
    role: Role, model: ModelName, request: Request, response: Response, parts: PartsDep, caller: ModelsWriter
) -> DatasetOut:
    """Stream JSONL in, of any size, as the model's dataset of a role; it takes the place of an earlier one.

    Each line is an example: `{"prompt", "completion"}` or `{"text"}`, with `subject`, `id`, `paraphrases`, `wrong` and
    `sensitive` if you have them. A bad line refuses the whole body, naming line numbers. The lines are encrypted as
    they arrive and cannot be read back over HTTP.
    """
    check_jsonl(request)
    take_in = partial(actions.replace, parts, caller, model, role, blocking_pieces(request))
    dataset, is_first = await in_its_turn(request, caller, take_in)
    response.status_code = 201 if is_first else 200
    return dataset


@router.get("", operation_id="listDatasets", responses=responses(403, 404))
def index(model: ModelName, parts: PartsDep, caller: ModelsReader) -> DatasetList:
    """The model's datasets: rows, size and digest of each."""
    with parts.database.reading() as session:
        return actions.listed(session, caller, model)


@router.get("/{role}", operation_id="getDataset", responses=responses(403, 404))
def show(role: Role, model: ModelName, parts: PartsDep, caller: ModelsReader) -> DatasetOut:
    """Rows, size and digest of one dataset."""
    with parts.database.reading() as session:
        return actions.show(session, caller, model, role)
