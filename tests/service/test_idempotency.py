"""The same key creates once, whoever wins the race; another body, path or caller is another story."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from records import idempotency
from records.parts import open_parts
from records.rows import IdempotencyRow
from records.settings import DatabaseSettings
from service.main import create_app
from tests.conftest import everything_stored, make_tenant
from tests.postgres import postgres_database
from tests.service.conftest import problem, write_checkpoint


@pytest.fixture
def post(client, ours, model):
    def post(key, tenant=ours, **more):
        body = {"model": model, "forget": [{"text": "forget me"}], **more}
        return client.post(
            "/v1/erasure-requests",
            json=body,
            headers={**tenant.headers, "Idempotency-Key": key} if key else tenant.headers,
        )

    return post


def test_the_same_key_and_body_get_the_stored_answer(post, parts):
    first = post("k-1")
    before = everything_stored(parts)
    again = post('"k-1"')
    assert (again.status_code, again.json(), again.headers["location"]) == (
        202,
        first.json(),
        first.headers["location"],
    )
    assert everything_stored(parts) == before


def test_another_body_under_the_same_key_is_422(post, parts):
    post("k-1")
    before = everything_stored(parts)
    problem(post("k-1", external_id="other"), 422, code="idempotency_key_reused")
    assert everything_stored(parts) == before


def test_a_body_cannot_be_guessed_from_the_database_alone(post, client, ours, parts, model):
    body = json.dumps({"model": model, "forget": [{"text": "forget me"}]}).encode()
    headers = {**ours.headers, "Idempotency-Key": "k-1", "Content-Type": "application/json"}
    made = client.post("/v1/erasure-requests", content=body, headers=headers)
    guess = hashlib.sha256(b"POST\n/v1/erasure-requests\n" + body).digest()
    with parts.database.transaction() as session:
        row = session.get_one(IdempotencyRow, (ours.key_id, "k-1"))
        assert row.fingerprint != guess
        row.fingerprint = guess  # as it was stored before
    assert client.post("/v1/erasure-requests", content=body, headers=headers).json() == made.json()
    problem(client.post("/v1/erasure-requests", content=body + b" ", headers=headers), 422)


def test_keys_belong_to_the_caller(post, client, ours, theirs, parts, model):
    first = post("k-1")
    colleague = make_tenant(parts, "ours")
    other = post("k-1", colleague)
    assert other.status_code == 202
    assert other.json()["id"] != first.json()["id"]
    problem(post("k-1", theirs), 404)


def test_without_a_key_every_call_creates(post):
    assert post(None).json()["id"] != post(None).json()["id"]


def test_a_refused_call_does_not_use_the_key_up(post):
    problem(post("k-1", method="magic"), 422)
    assert post("k-1").status_code == 202


def test_racing_calls_with_one_key_create_once(post, client, ours, parts):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post("k-race"), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    listed = client.get("/v1/erasure-requests", headers=ours.headers).json()["data"]
    assert len(listed) == 1
    stored = everything_stored(parts)
    assert stored["idempotency_keys"] == 1
    assert stored["temporary"] == 0


def test_the_losers_leave_no_sealed_file(post, parts, model):
    before = len(everything_stored(parts)["blobs"])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: post("k-race"), range(8)))
    assert len(everything_stored(parts)["blobs"]) == before + 1


def test_racing_imports_of_one_name_make_one_model(client, ours, import_root, parts):
    body = {"name": "acme/race", "source": {"path": str(write_checkpoint(import_root / "m"))}}

    def create(number):
        headers = {**ours.headers, "Idempotency-Key": f"k-{number % 2}"}
        return client.post("/v1/models", json=body, headers=headers).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(create, range(6)))
    assert statuses == [201, 201, 201, 409, 409, 409]
    assert everything_stored(parts)["models"] == 1


@pytest.mark.postgres
def test_racing_calls_on_postgres_meet_at_the_primary_key(settings, import_root):
    with postgres_database() as url:
        parts = open_parts(replace(settings, database=DatabaseSettings(database_url=url)), migrates=True)
        tenant = make_tenant(parts, "ours")
        with TestClient(create_app(parts)) as client:
            path = str(write_checkpoint(import_root / "pg"))
            made = client.post("/v1/models", json={"name": "a/b", "source": {"path": path}}, headers=tenant.headers)
            assert made.status_code == 201, made.text
            headers = {**tenant.headers, "Idempotency-Key": "k-race"}
            body = {"model": "a/b", "forget": [{"text": "forget me"}]}

            def post(_):
                return client.post("/v1/erasure-requests", json=body, headers=headers)

            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(post, range(8)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert everything_stored(parts)["erasure_requests"] == 1
        parts.close()


def test_what_its_twin_has_done_meanwhile_is_no_refusal(client, ours, import_root, parts, monkeypatch):
    """Of two calls at once both find nothing stored; the one that comes second finds the name taken."""
    body = {"name": "acme/twin", "source": {"path": str(write_checkpoint(import_root / "m"))}}
    headers = {**ours.headers, "Idempotency-Key": "k-twin"}
    first = client.post("/v1/models", json=body, headers=headers)
    looked, stored = iter([None]), idempotency.stored
    monkeypatch.setattr(idempotency, "stored", lambda *given: next(looked, "again") and stored(*given))
    second = client.post("/v1/models", json=body, headers=headers)
    assert (second.status_code, second.json()) == (201, first.json())
    admin = make_tenant(parts, "ours", ["admin"])
    path, headers = f"/v1/keys/{ours.key_id}/rotate", {**admin.headers, "Idempotency-Key": "k-twin"}
    rotated = client.post(path, headers=headers).json()
    looked = iter([None])
    again = client.post(path, headers=headers)
    assert (again.status_code, again.json()) == (201, {**rotated, "key": None})


@pytest.mark.parametrize("key", ["", "a b", "x" * 200, "ada@example.org"])
def test_a_key_that_could_be_text_is_refused(key, client, ours, model):
    headers = {**ours.headers, "Idempotency-Key": key}
    body = {"model": model, "forget": [{"text": "a"}]}
    found = problem(client.post("/v1/erasure-requests", json=body, headers=headers), 422)
    assert [error["parameter"] for error in found["errors"]] == ["idempotency-key"]
