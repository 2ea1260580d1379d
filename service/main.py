"""The HTTP application. `create_app` puts it together from what it is given; importing this file does nothing.

    app = create_app(open_parts())

The layers around a call are in service/middleware.py, the resources in one folder each.
"""

import re
from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.types import Scope

from records.parts import Parts
from records.policies import read_policies
from records.settings import HttpSettings
from service import problems
from service.api_page.routes import router as api_page
from service.audit.routes import router as audit
from service.auth import Authentication
from service.datasets.routes import router as datasets
from service.erasure_requests.routes import router as erasure_requests
from service.health.metrics import Metrics
from service.health.routes import router as health
from service.jobs.routes import router as jobs
from service.keys.routes import router as keys
from service.limits import Places, RateLimit, Shares
from service.methods.routes import router as methods
from service.middleware import BodyLimit, RequestContext
from service.models.routes import router as models
from service.policies.routes import router as policies
from service.uploads.routes import router as uploads
from service.versions.routes import router as versions
from service.webhooks.routes import router as webhooks

VERSION = "1"
DESCRIPTION = """\
Lethe makes a language model forget, and proves what it measured.

Register a model, attach its datasets, post an **erasure request**. A job changes the newest version of the model,
measures what is left, and publishes a new version only if the measurements pass the policy that was fixed when the
request was taken in. Every step is an entry of an audit log that you can verify yourself.

Every call needs `Authorization: Bearer <key>`. Refusals are RFC 9457 problem details. Creating calls take an
`Idempotency-Key`: the same key with the same body creates once.
"""
TAGS = [
    {"name": "models", "description": "Named lineages of weights."},
    {"name": "uploads", "description": "Folders sent file by file, to be made models of."},
    {"name": "datasets", "description": "JSONL attached to a model under a role; sealed as it arrives."},
    {"name": "versions", "description": "Immutable sets of weight files, with digests and signatures."},
    {"name": "erasure requests", "description": "One 'forget this data' each: state, deadline, report."},
    {"name": "jobs", "description": "Executions and their attempts."},
    {"name": "methods", "description": "The unlearning algorithms and their parameters."},
    {"name": "policies", "description": "The thresholds that verdicts are taken under, by the operator's names."},
    {"name": "keys", "description": "API keys of the tenant: scoped, expiring, rotated with an overlap."},
    {"name": "webhooks", "description": "Being told of states: Standard Webhooks, signed, with retries."},
    {"name": "audit", "description": "The Merkle log: entries, signed heads, proofs."},
    {"name": "health", "description": "For load balancers and monitoring; no key needed."},
]
ROUTERS = (
    models,
    uploads,
    datasets,
    versions,
    erasure_requests,
    jobs,
    methods,
    policies,
    keys,
    webhooks,
    audit,
    health,
    api_page,
)
LONG_AT_ONCE = 16  # each holds a thread for as long as its sender, or a file, takes; other calls have their own threads
LOOKS_AT_ONCE = 4  # of all event streams: a burst of them waits for itself alone
SMALL_BODY_BYTES = 256 * 1024  # only forget sets are larger
# FastAPI's own spans and log records hold addresses with their queries and the texts of exceptions: ours do not.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
_UPLOADED = re.compile(r"/v1/uploads/[^/]+/files/.+")
_DATASET = re.compile(r"/v1/models/[^/]+/[^/]+/datasets/[^/]+")


def create_app(parts: Parts, worker_alive: Callable[[], bool] | None = None) -> FastAPI:
    """The application over opened parts. `worker_alive` is for the process that runs a worker thread beside it.

    Raises Invalid for a file of policies that cannot be used.
    """
    policies_by_name = read_policies(parts.settings.http.policies_file)
    metrics = Metrics(parts.database, parts.settings.place.folder)
    layers = [
        Middleware(RequestContext, observe=metrics.observe),
        Middleware(
            BodyLimit,
            limit_bytes=lambda scope: _body_limit(parts.settings.http, scope),
            stall_seconds=parts.settings.http.body_seconds,
        ),
        Middleware(Authentication, parts=parts),
        Middleware(RateLimit, limits=parts.settings.limits),
    ]
    app = FastAPI(
        title="Lethe",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        middleware=layers,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    app.state.parts, app.state.metrics, app.state.worker_alive = parts, metrics, worker_alive
    app.state.policies = policies_by_name
    app.state.verified = {}
    app.state.places = Places(LONG_AT_ONCE)
    app.state.looks, app.state.streams = CapacityLimiter(LOOKS_AT_ONCE), Shares(parts.settings.limits.tenant_streams)
    app.state.routes = [route for router in ROUTERS for route in router.routes]
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's own way to extend the document
    return app


def _body_limit(settings: HttpSettings, scope: Scope) -> int:
    if scope["method"] == "PUT" and _DATASET.fullmatch(scope["path"]):
        return settings.max_dataset_bytes
    if scope["method"] == "PUT" and _UPLOADED.fullmatch(scope["path"]):
        return settings.max_upload_bytes
    if scope["path"] in ("/v1/erasure-requests", "/v1/uploads"):
        return settings.max_body_bytes
    return min(settings.max_body_bytes, SMALL_BODY_BYTES)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with problem details in place of its own validation errors."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, tags=TAGS, routes=app.routes
        )
        schemas = document["components"]["schemas"]
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        whole = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(whole.pop("$defs"))
        schemas["Problem"] = whole
        for operation in (one for path in document["paths"].values() for one in path.values()):
            _complete(operation)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(operation: dict[str, Any]) -> None:
    """What holds for every operation: a title from its name, and how a JSON body is refused that stalls, is too large
    or is not JSON.
    """
    operation["summary"] = re.sub(r"(?=[A-Z])", " ", operation["operationId"]).capitalize()
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        refusals = problems.responses(408, 413, 415)
        operation["responses"] |= {str(status): refusals[status] for status in (408, 413, 415)}
