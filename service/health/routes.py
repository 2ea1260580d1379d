"""/healthz, /readyz, /metrics"""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from service.deps import PartsDep
from service.health import actions
from service.health.schemas import Alive, Ready

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="isAlive")
def alive() -> Alive:
    """The process answers."""
    return Alive()


@router.get("/readyz", operation_id="isReady", responses={503: {"model": Ready, "description": "Something is broken."}})
def ready(request: Request, response: Response, parts: PartsDep) -> Ready:
    """Database, schema, store and worker are fit for work; 503 names the one that is not."""
    found = actions.readiness(parts, request.app.state.worker_alive)
    response.status_code = 200 if found.status == "ready" else 503
    return found


@router.get("/metrics", operation_id="getMetrics", response_class=Response)
def metrics(request: Request) -> Response:
    """For Prometheus. Counts only, over all tenants: keep it inside your network."""
    return Response(request.app.state.metrics.page(), media_type=CONTENT_TYPE_LATEST)
