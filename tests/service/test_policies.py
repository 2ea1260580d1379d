"""The operator's named policies over HTTP: listed, named, tightened, frozen into the request; never loosened."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from records.errors import Invalid
from records.parts import Parts, Settings, open_parts
from records.policy import Policy
from service.main import create_app
from tests.conftest import Tenant, everything_stored
from tests.service.conftest import problem, submit

PILOT = {"min_control_items": 4}


@pytest.fixture
def policies_file(tmp_path: Path) -> Path:
    path = tmp_path / "policies.json"
    path.write_text(json.dumps({"pilot": PILOT}))
    return path


@pytest.fixture
def parts(settings: Settings, policies_file: Path) -> Iterator[Parts]:
    http = settings.http.model_copy(update={"policies_file": str(policies_file)})
    opened = open_parts(replace(settings, http=http), migrates=True)
    yield opened
    opened.close()


def test_policies_are_listed_with_their_thresholds(client: TestClient, ours: Tenant) -> None:
    found = client.get("/v1/policies", headers=ours.headers).json()["data"]
    assert [one["name"] for one in found] == ["default", "pilot"]
    assert [one["digest"] for one in found] == [Policy().digest(), Policy(**PILOT).digest()]
    assert found[1]["thresholds"] == Policy(**PILOT).model_dump(mode="json")


def test_a_request_names_a_policy_and_tightens_it(client: TestClient, ours: Tenant, model: str) -> None:
    made = submit(client, ours, model, policy={"name": "pilot", "min_control_items": 6}).json()
    assert (made["policy_name"], made["policy"]["min_control_items"]) == ("pilot", 6)
    assert made["policy_digest"] == Policy(min_control_items=6).digest()
    entries = client.get("/v1/audit/entries", headers=ours.headers).json()["data"]
    received = [entry["event"]["details"] for entry in entries if entry["event"]["tag"] == "request.received"]
    assert [(one["policy_name"], one["policy"]) for one in received] == [("pilot", made["policy_digest"])]


def test_a_refusal_names_the_field_the_bound_and_the_remedy(
    client: TestClient, ours: Tenant, model: str, parts: Parts
) -> None:
    before = everything_stored(parts)
    answer = submit(client, ours, model, policy={"name": "pilot", "min_control_items": 3})
    (error,) = problem(answer, 422, "/policy/min_control_items", "policy_loosened")["errors"]
    assert "set it to at least 4" in error["detail"]
    problem(submit(client, ours, model, policy={"min_control_items": 4}), 422, "/policy/min_control_items")
    assert everything_stored(parts) == before


def test_a_models_policy_binds_its_requests(client: TestClient, ours: Tenant, model: str) -> None:
    wished = {"defaults": {"policy": {"name": "pilot", "min_control_items": 8}}}
    assert client.patch(f"/v1/models/{model}", json=wished, headers=ours.headers).status_code == 200
    assert submit(client, ours, model).json()["policy"]["min_control_items"] == 8
    for looser in ({"min_control_items": 7}, {"name": "pilot", "min_control_items": 7}, {"name": "pilot"}):
        problem(submit(client, ours, model, policy=looser), 422, "/policy/min_control_items")
    assert submit(client, ours, model, policy={"name": "default"}).json()["policy"]["min_control_items"] == 10


def test_a_policy_that_left_the_file_says_how_to_go_on(
    client: TestClient, ours: Tenant, model: str, parts: Parts, policies_file: Path
) -> None:
    wished = {"defaults": {"policy": {"name": "pilot"}}}
    client.patch(f"/v1/models/{model}", json=wished, headers=ours.headers)
    policies_file.write_text("{}")
    with TestClient(create_app(parts)) as later:
        body = problem(submit(later, ours, model), 422, "/model")
        assert "PATCH /v1/models" in body["detail"]
        later.patch(f"/v1/models/{model}", json={"defaults": {}}, headers=ours.headers)
        assert submit(later, ours, model).status_code == 202


def test_a_file_that_cannot_be_used_stops_the_start(parts: Parts, policies_file: Path) -> None:
    policies_file.write_text('{"pilot": {"min_control_items": 0}}')
    with pytest.raises(Invalid, match="LETHE_POLICIES_FILE: policy 'pilot', min_control_items"):
        create_app(parts)
