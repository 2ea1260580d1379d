"""Refusals have one shape, carry an id, and never repeat what was sent; defects of ours say nothing at all."""

import json

import httpx
import pytest
from sqlalchemy import exc, text
from starlette.testclient import TestClient

from records.errors import LetheError
from service import problems
from service.main import create_app
from tests.conftest import make_tenant
from tests.service.conftest import problem
from tests.service.live import serving

SECRET = "ada-lovelace-1815"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/methods", "/v1/audit/keys", "/v1/none", "/v1", "/v1/jobs/job_1"])
@pytest.mark.parametrize("given", [None, "Bearer", "Bearer nonsense", "Basic abc", f"Bearer {SECRET}"])
def test_every_path_of_the_api_asks_for_a_key(path, given, client):
    answer = client.get(path, headers={"Authorization": given} if given else {})
    problem(answer, 401, code="unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert SECRET not in answer.text


def test_the_router_answers_with_problems_too(client, ours):
    problem(client.get("/v1/none", headers=ours.headers), 404, code="not_found")
    problem(client.get("/none"), 401, code="unauthorized")
    refused = client.patch("/v1/models", headers=ours.headers)
    problem(refused, 405, code="method_not_allowed")
    assert refused.headers["allow"] == "GET, POST"
    refused = client.post("/v1/models/a/b/versions/1/files/c/d.json", headers=ours.headers)
    problem(refused, 405)
    assert refused.headers["allow"] == "GET, HEAD"


def test_values_are_never_repeated(client, ours):
    body = {"model": f"acme/{SECRET} x", "forget": [{"text": 5, SECRET: SECRET}], "method": [SECRET], "policy": SECRET}
    answer = client.post("/v1/erasure-requests", json=body, headers=ours.headers)
    problem(answer, 422, "/policy")
    assert SECRET not in answer.text
    assert SECRET not in client.get(f"/v1/jobs?model={SECRET}", headers=ours.headers).text


def test_request_ids_are_given_back_or_made(client):
    assert (
        client.get("/healthz", headers={"X-Request-Id": "trace-12345678"}).headers["x-request-id"] == "trace-12345678"
    )
    for unfit in ("short", "ada@example.org", "a b c d e f g", "x" * 65):
        made = client.get("/healthz", headers={"X-Request-Id": unfit}).headers["x-request-id"]
        assert made != unfit
        assert len(made) == 32


def test_a_defect_says_nothing_to_the_caller_or_the_log(parts, ours, capsys):
    app = create_app(parts)

    @app.get("/v1/broken")
    def broken() -> None:
        raise RuntimeError(f"the name is {SECRET}")

    @app.get("/v1/broken/expected")
    def expected() -> None:
        raise LetheError("A sentence we wrote.")

    with TestClient(app) as client:
        answer = client.get("/v1/broken?q=" + SECRET, headers=ours.headers)
        problem(answer, 500, code="internal")
        assert "sentence we wrote" in problem(client.get("/v1/broken/expected", headers=ours.headers), 500)["detail"]
    printed = capsys.readouterr()
    assert SECRET not in answer.text + printed.out + printed.err
    assert "RuntimeError" in printed.out
    assert answer.headers["x-request-id"] in printed.out


@pytest.mark.parametrize(
    "error",
    [
        exc.OperationalError(f"SELECT '{SECRET}'", {}, Exception(SECRET)),
        exc.InterfaceError(f"SELECT '{SECRET}'", {}, Exception(SECRET)),
        exc.TimeoutError("QueuePool limit reached"),
    ],
)
def test_while_the_database_is_away_a_call_is_to_be_sent_again(error, parts, ours, capsys):
    app = create_app(parts)

    @app.get("/v1/broken")
    def broken() -> None:
        raise error

    with TestClient(app) as client:
        answer = client.get("/v1/broken", headers=ours.headers)
    problem(answer, 503, code="database_away")
    assert int(answer.headers["retry-after"]) > 0
    printed = capsys.readouterr()
    assert SECRET not in answer.text + printed.out + printed.err
    assert "database_away" in printed.out


def test_a_statement_that_is_wrong_is_a_defect_and_no_reason_to_wait(parts, ours):
    app = create_app(parts)

    @app.get("/v1/broken")
    def broken() -> None:
        with parts.database.reading() as session:
            session.execute(text("SELECT 1 FROM nowhere"))

    with TestClient(app) as client:
        problem(client.get("/v1/broken", headers=ours.headers), 500, code="internal")


def test_the_log_names_the_route_and_not_the_path(client, ours, model, capsys):
    client.get(f"/v1/models/{model}?q={SECRET}", headers=ours.headers)
    line = [row for row in capsys.readouterr().out.splitlines() if "call" in row][-1]
    assert "/v1/models/{namespace}/{name}" in line
    assert model not in line
    assert SECRET not in line
    assert ours.id in line


def test_a_declared_body_over_the_limit_is_refused_unread(client, ours):
    headers = {**ours.headers, "Content-Length": "99999999"}
    problem(client.post("/v1/models", content=b"{}", headers=headers), 413, code="too_large")


def test_a_chunked_body_over_the_limit_is_refused(client, ours):
    headers = {**ours.headers, "Content-Type": "application/json"}
    problem(client.post("/v1/models", content=iter([b" " * 1000] * 100), headers=headers), 413, code="too_large")


@pytest.mark.slow
def test_limits_hold_over_a_socket(parts, ours):
    with serving(parts) as base:
        headers = {**ours.headers, "Content-Type": "application/json"}
        answer = httpx.post(f"{base}/v1/models", content=iter([b" " * 1000] * 100), headers=headers)
        problem(answer, 413, code="too_large")


def test_pointers_follow_rfc_6901():
    assert problems.pointer(("a/b", "c~d", 3), "missing") == "/a~1b/c~0d/3"
    assert problems.pointer(("forget", 0, "Ada Lovelace"), "extra_forbidden") == "/forget/0"
    assert problems.pointer(("forget", 0, "nmae"), "extra_forbidden") == "/forget/0/nmae"


def test_expired_and_admin_keys(client, parts, ours):
    admin = make_tenant(parts, "ours", ["admin"])
    assert client.get("/v1/models", headers=admin.headers).status_code == 200
    assert json.loads(client.get("/v1/audit/keys", headers=admin.headers).text)["object"] == "keys"
