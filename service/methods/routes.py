"""/v1/methods"""

from fastapi import APIRouter

from records.params import METHOD_CARDS, PARAMETERS, MethodCard
from service.deps import ModelsReader
from service.json_route import JsonRoute
from service.methods.schemas import MethodList, MethodOut
from service.problems import responses

router = APIRouter(prefix="/v1/methods", tags=["methods"], route_class=JsonRoute)


@router.get("", operation_id="listMethods", responses=responses(403))
def index(_: ModelsReader) -> MethodList:
    """The unlearning methods: paper, equation, what each needs and costs, its parameters as JSON Schema."""
    return MethodList(data=[_wire(card) for card in METHOD_CARDS.values()])


def _wire(card: MethodCard) -> MethodOut:
    return MethodOut(
        name=str(card.name),
        title=card.title,
        paper=card.paper,
        equation=card.equation,
        needs=list(card.needs),
        cost=card.cost,
        parameters=PARAMETERS[card.name].model_json_schema(),
    )
