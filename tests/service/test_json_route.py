"""What is refused before a call is looked at: bodies that are not declared as JSON, queries that it does not have."""

import json

import pytest

from tests.conftest import make_tenant
from tests.service.conftest import problem, put_lines, submit

BODY = {"name": "ours", "scopes": ["models:read"]}
JSON_TYPES = [
    "application/json",
    "Application/JSON; charset=utf-8",
    "application/vnd.acme+json",
    'application/json; profile="a;b"',
]


@pytest.fixture
def admin(parts):
    return make_tenant(parts, "ours", ["admin"])


def post(client, tenant, content, **headers):
    return client.post("/v1/keys", content=content, headers={**tenant.headers, **headers})


@pytest.mark.parametrize("declared", JSON_TYPES)
def test_json_by_any_of_its_names(declared, client, admin):
    answer = post(client, admin, json.dumps(BODY), **{"Content-Type": declared})
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "declared", ["application/x-www-form-urlencoded", "text/plain", "application/jsonl", None, "json"]
)
def test_another_type_or_none_is_415_with_the_remedy(declared, client, admin):
    answer = post(client, admin, json.dumps(BODY), **({"Content-Type": declared} if declared else {}))
    found = problem(answer, 415, code="unsupported_media_type")
    assert found["detail"] == "Send JSON with Content-Type: application/json."


def test_a_compressed_body_is_415(client, admin):
    answer = post(client, admin, json.dumps(BODY), **{"Content-Type": "application/json", "Content-Encoding": "gzip"})
    assert "uncompressed" in problem(answer, 415)["detail"]


@pytest.mark.parametrize("declared", ["application/x-www-form-urlencoded", "application/json", None])
def test_a_call_without_a_body_needs_no_type(declared, client, admin, ours, model):
    headers = {"Content-Type": declared} if declared else {}
    key = post(client, admin, json.dumps(BODY), **{"Content-Type": "application/json"}).json()["id"]
    assert client.post(f"/v1/keys/{key}/rotate", headers={**admin.headers, **headers}).status_code == 201
    request = submit(client, ours, model).json()["id"]
    cancelled = client.post(f"/v1/erasure-requests/{request}/cancel", headers={**ours.headers, **headers})
    assert cancelled.status_code == 200, cancelled.text


def test_a_call_that_needs_a_body_says_so(client, admin):
    assert "needs a body in JSON" in problem(client.post("/v1/keys", headers=admin.headers), 422, "")["detail"]


def test_a_large_body_of_another_type_is_still_too_large(client, admin):
    problem(post(client, admin, b"x" * 300_000, **{"Content-Type": "text/plain"}), 413, code="too_large")


def test_the_document_tells_of_it(client):
    for methods in client.get("/openapi.json").json()["paths"].values():
        for operation in methods.values():
            takes_json = "application/json" in operation.get("requestBody", {}).get("content", {})
            assert "415" in operation["responses"] or not takes_json, operation["operationId"]


def test_what_is_not_utf_8_is_said_to_be_so(client, admin):
    for body in (json.dumps(BODY).encode("utf-16"), json.dumps(BODY).encode("utf-16-le"), b'{"name": "\xff"}'):
        found = problem(post(client, admin, body, **{"Content-Type": "application/json"}), 422, "")
        assert found["detail"] == "This is not JSON: it is not UTF-8; save it as UTF-8, and send it again."


def test_a_mark_before_the_text_is_passed_over(client, admin):
    answer = post(client, admin, b"\xef\xbb\xbf" + json.dumps(BODY).encode(), **{"Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text


def test_a_query_that_is_misspelt_is_refused_with_those_that_there_are(client, ours, model):
    submit(client, ours, model)
    found = problem(client.get("/v1/erasure-requests?stat=queued", headers=ours.headers), 422)
    [error] = found["errors"]
    assert error["parameter"] == "stat"
    assert error["detail"] == "There is no such query parameter; this call takes model, state, limit, after."
    assert len(client.get("/v1/erasure-requests?state=queued", headers=ours.headers).json()["data"]) == 1
    found = problem(client.get("/v1/methods?name=undial", headers=ours.headers), 422)
    assert found["detail"] == "There is no such query parameter; this call takes none."
    assert client.get("/v1/audit/proofs?from=0", headers=ours.headers).status_code == 200, "an alias is its name"


def test_a_query_that_is_no_name_is_not_repeated(client, ours):
    answer = client.get("/v1/jobs?ada%40example.org=1", headers=ours.headers)
    assert problem(answer, 422)["errors"][0]["parameter"] == "query"
    assert "ada" not in answer.text


def test_puts_are_looked_at_too(client, ours, model):
    headers = {**ours.headers, "Content-Type": "application/jsonl"}
    path = f"/v1/models/{model}/datasets/training?replace=no"
    problem(client.put(path, content=b'{"text": "a"}', headers=headers), 422)
    assert put_lines(client, ours, model, "training", b'{"text": "a"}').status_code == 201


def test_a_cursor_of_another_list_is_refused(client, ours, model):
    for _ in range(2):
        submit(client, ours, model)
    page = client.get("/v1/erasure-requests?limit=1", headers=ours.headers).json()
    behind = client.get(f"/v1/erasure-requests?after={page['next_cursor']}", headers=ours.headers)
    assert len(behind.json()["data"]) == 1
    job = page["data"][0]["job"]["id"]
    found = problem(client.get(f"/v1/erasure-requests?after={job}", headers=ours.headers), 422)
    assert found["errors"][0]["parameter"] == "after"
    assert "begins req_" in found["detail"]
    problem(client.get(f"/v1/jobs?after={page['next_cursor']}", headers=ours.headers), 422)
