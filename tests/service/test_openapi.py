"""The document that clients are made from: stable names, described, with problems as the refusals."""

import ast
import inspect
import json
import textwrap

import pytest

from service.main import ROUTERS, create_app

OPERATIONS = [
    *("createUpload", "getUpload", "putUploadFile", "deleteUpload"),
    *("createModel", "listModels", "getModel", "changeModel", "putDataset", "listDatasets", "getDataset"),
    *("listVersions", "getVersion", "listVersionFiles", "getVersionFile", "getVersionAttestation"),
    *("getVersionSignature", "createErasureRequest", "listErasureRequests", "getErasureRequest"),
    *("listErasureRequestEvents", "cancelErasureRequest", "approveErasureRequest", "rejectErasureRequest"),
    *("getErasureRequestReport", "shredErasureRequestPayload", "listJobs", "getJob", "listMethods", "listPolicies"),
    *("listAuditEntries", "getTreeHead", "getConsistencyProof", "getInclusionProof", "getPublicKeys"),
    *("createKey", "listKeys", "getKey", "rotateKey", "revokeKey"),
    *("createWebhook", "listWebhooks", "getWebhook", "deleteWebhook", "rotateWebhook", "listDeliveries", "redeliver"),
    *("isAlive", "isReady", "getMetrics"),
]


@pytest.fixture
def document(parts):
    return json.loads(json.dumps(create_app(parts).openapi()))


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_operation_names_are_stable(document):
    assert sorted(op["operationId"] for _, _, op in operations(document)) == sorted(OPERATIONS)


def test_every_operation_is_described_and_its_refusals_are_problems(document):
    for path, _, operation in operations(document):
        assert operation["description"].strip()
        assert len(operation["tags"]) == 1
        if path.startswith("/v1"):
            assert {"401", "422", "429", "503"} <= operation["responses"].keys()
            assert operation["security"]
        for status, answer in operation["responses"].items():
            if int(status) in {401, 403, 404, 408, 409, 412, 413, 415, 416, 422, 429, 507}:
                assert list(answer["content"]) == ["application/problem+json"]


def test_every_operation_that_takes_json_says_how_a_body_is_refused(document):
    taking = [
        operation
        for _, _, operation in operations(document)
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    ]
    assert {"createModel", "changeModel", "rotateKey", "cancelErasureRequest"} <= {one["operationId"] for one in taking}
    for operation in taking:
        assert {"408", "413", "415"} <= operation["responses"].keys(), operation["operationId"]


def test_every_reference_leads_somewhere(document):
    def references(value):
        if isinstance(value, dict):
            yield from [value["$ref"]] if "$ref" in value else []
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_a_report_is_documented_as_json_and_as_a_page(document):
    answer = document["paths"]["/v1/erasure-requests/{request_id}/report"]["get"]["responses"]["200"]
    assert answer["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/ReportOut"}},
        "text/html": {"schema": {"type": "string"}},
    }


def test_the_document_needs_no_key(client):
    assert client.get("/openapi.json").status_code == 200


def test_methods_come_with_their_schema(client, ours):
    found = client.get("/v1/methods", headers=ours.headers).json()["data"]
    undial = next(card for card in found if card["name"] == "undial")
    rate = undial["parameters"]["properties"]["learning_rate"]
    assert {"minimum", "maximum", "default", "description"} <= rate.keys()
    assert "2402.10052" in undial["paper"]


def test_handlers_stay_thin_and_plain():
    for router in ROUTERS:
        for route in router.routes:
            function = ast.parse(textwrap.dedent(inspect.getsource(route.endpoint))).body[0]
            in_threads = isinstance(function, ast.FunctionDef) or "in_its_turn" in route.endpoint.__code__.co_names
            assert in_threads, "handlers are def, or do what is long in its turn: they run in worker threads"
            body = function.body[1:]  # without the docstring
            assert sum((node.end_lineno or 0) - node.lineno + 1 for node in body) <= 10, function.name
