"""/v1/policies"""

from fastapi import APIRouter

from service.deps import ModelsReader, PoliciesDep
from service.json_route import JsonRoute
from service.policies.schemas import PolicyList, PolicyOut
from service.problems import responses

router = APIRouter(prefix="/v1/policies", tags=["policies"], route_class=JsonRoute)


@router.get("", operation_id="listPolicies", responses=responses(403))
def index(policies: PoliciesDep, _: ModelsReader) -> PolicyList:
    """The operator's policies by name. A model's defaults and a request may name one, and tighten it, never loosen it.

    `default` holds where neither names another.
    """
    return PolicyList(
        data=[PolicyOut(name=name, digest=one.digest(), thresholds=one) for name, one in sorted(policies.items())]
    )
