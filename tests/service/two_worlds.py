"""Two tenants who own one of everything, and the values under which every parameter of the API names one of it.

A route whose parameter, or whose body's field, is in none of these tables fails `test_isolation.py`: say here what the
new parameter names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from records.manifest import sha256_digest
from records.parts import Parts
from records.tenants import SCOPES
from tests.conftest import Tenant, make_tenant
from tests.service import worker
from tests.service.conftest import put_lines, submit, write_checkpoint

ID_PARAMETERS = {
    ("path", "namespace"): "namespace",
    ("path", "name"): "name",
    ("path", "number"): "number",
    ("path", "role"): "role",
    ("path", "path"): "file",
    ("path", "request_id"): "request",
    ("path", "job_id"): "job",
    ("path", "position"): "position",
    ("path", "key_id"): "key",
    ("path", "webhook_id"): "webhook",
    ("path", "delivery_id"): "delivery",
    ("path", "upload_id"): "upload",
    ("query", "model"): "model",
}
"""Parameters that name something of a tenant's: another tenant's is not there."""

CURSORS = {("query", "after"), ("header", "last-event-id")}
"""Where a list goes on: another tenant's is a place and nothing else."""

LISTED = {
    "listModels": "mod",
    "listVersions": "ver",
    "listErasureRequests": "req",
    "listJobs": "job",
    "listKeys": "key",
    "listWebhooks": "whk",
    "listDeliveries": "dlv",
}
"""How the cursors of a list begin."""

COUNTED = {"listAuditEntries", "listErasureRequestEvents"}
"""Lists whose cursor is a number."""

PLAIN = {
    *(("query", name) for name in ("limit", "state", "attempt", "size")),
    *(("header", name) for name in ("idempotency-key", "if-match")),
}
"""Optional, and naming nothing of a tenant's."""

NEEDED = {("query", "from"): "1"}
"""Required, and naming nothing of a tenant's."""

ID_FIELDS = {"model": "model", "reference": "base"}
"""Fields of bodies that name something of a tenant's."""

PLAIN_FIELDS = {
    *("source", "defaults", "forget", "subject", "regulation", "submitted_at", "method", "parameters", "policy"),
    *("evidence", "external_id", "reason", "name"),
    *("scopes", "expires_at", "overlap_seconds", "priority", "url", "events", "callback_url", "files"),
}

PUBLIC = {"isAlive", "isReady", "getMetrics"}
"""Operations that need no key, and tell of no tenant."""

EVERYBODYS = {"listMethods", "listPolicies", "getTreeHead", "getConsistencyProof", "getPublicKeys"}
"""Operations whose answer is the same for every tenant."""


SENT = b"weights"


def announced() -> dict[str, Any]:
    """One file, the one that `file` names in both worlds."""
    return {"files": [{"path": "model.safetensors", "digest": sha256_digest(SENT), "size_bytes": len(SENT)}]}


@dataclass(frozen=True)
class World:
    """A tenant, and what each kind of parameter must say to name the tenant's own."""

    tenant: Tenant
    values: Mapping[str, str]
    import_root: Path

    def body(self, operation_id: str) -> Any:
        """A body that is right for this tenant; None for operations that take none. KeyError: add the operation."""
        made: dict[str, Any] = {
            "createModel": {"name": "acme/new", "source": {"path": str(self.import_root / "tiny")}},
            "changeModel": {"defaults": {}},
            "createUpload": announced(),
            "putUploadFile": SENT,
            "putDataset": b'{"text": "a row"}\n',
            "createErasureRequest": {"model": self.values["model"], "forget": [{"text": "forget this"}]},
            "cancelErasureRequest": {"reason": "a reason"},
            "approveErasureRequest": {"reason": "a reason"},
            "rejectErasureRequest": {"reason": "a reason"},
            "createKey": {"name": "another", "scopes": ["models:read"]},
            "createWebhook": {"url": "https://example.com/hooks"},
            "rotateWebhook": {"overlap_seconds": 60},
            "rotateKey": {"overlap_seconds": 60},
        }
        return made[operation_id]


NOBODYS = {
    "namespace": "acme",
    "name": "nothing",
    "model": "acme/nothing",
    "base": "acme/nothing",
    "number": "77",
    "role": "utility",
    "file": "nothing.json",
    "request": "req_0123456789abcd0123456789abcdef0123",
    "job": "job_0123456789abcd0123456789abcdef0123",
    "position": "123456",
    "key": "key_0123456789abcd0123456789abcdef0123",
    "webhook": "whk_0123456789abcd0123456789abcdef0123",
    "delivery": "dlv_0123456789abcd0123456789abcdef0123",
    "upload": "upl_0123456789abcd0123456789abcdef0123",
    "cursor": "mod_0123456789abcd0123456789abcdef0123",
}
"""Well-formed values that name nothing."""


def make_world(client: TestClient, parts: Parts, import_root: Path, name: str) -> World:
    """A tenant with two models; one with all its datasets, a version that forgot somebody, and a request that waits."""
    tenant = make_tenant(parts, name, list(SCOPES))
    model, base = f"{name}-space/{name}-model", f"{name}-space/{name}-base"
    source = {"path": str(write_checkpoint(import_root / "tiny"))}
    for one in (base, model):
        created = client.post("/v1/models", json={"name": one, "source": source}, headers=tenant.headers)
        assert created.status_code == 201, created.text
    for role in ("training", "retain", "control", "utility"):
        put_lines(client, tenant, model, role, [{"text": f"a row of {name}"}])
    hook = client.post("/v1/webhooks", json={"url": "https://example.com/hooks"}, headers=tenant.headers).json()
    request = submit(client, tenant, model, external_id=f"{name}-case").json()["id"]
    number = worker.publish(parts, request, name.encode())
    submit(client, tenant, model)
    entries = client.get("/v1/audit/entries", headers=tenant.headers).json()["data"]
    shown = client.get(f"/v1/erasure-requests/{request}", headers=tenant.headers).json()
    told = client.get(hook["links"]["deliveries"], headers=tenant.headers).json()["data"]
    namespace, _, short = model.partition("/")
    values = {
        "namespace": namespace,
        "name": short,
        "model": model,
        "base": base,
        "number": str(number),
        "role": "training",
        "file": "model.safetensors",
        "request": request,
        "job": shown["job"]["id"],
        "position": str(entries[-1]["position"]),
        "webhook": hook["id"],
        "delivery": told[0]["id"],
        "upload": client.post("/v1/uploads", json=announced(), headers=tenant.headers).json()["id"],
        "key": make_tenant(parts, name, ["models:read"]).key_id,
        "cursor": created.json()["id"],
    }
    return World(tenant, values, import_root)
