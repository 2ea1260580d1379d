"""Refusals are sentences: what is wrong with which field, and what to write instead; no pattern, no Python."""

import re
from pathlib import Path

import pytest

import service
from tests.conftest import make_tenant
from tests.service.conftest import problem, submit

PATTERN = re.compile(r"[\^$\\]|\[A-Za")


def said(answer, place, key="pointer"):
    """The one sentence at a place, which every refusal has."""
    found = problem(answer, 422)
    [sentence] = [error["detail"] for error in found["errors"] if error.get(key) == place]
    assert not PATTERN.search(sentence)
    return sentence


@pytest.fixture
def admin(parts):
    return make_tenant(parts, "ours", ["admin"])


def test_a_model_is_named_by_two_names(client, ours):
    assert said(submit(client, ours, "nobody"), "/model").startswith("Write namespace/name, such as acme/support-7b")
    listed = client.get("/v1/jobs?model=nobody", headers=ours.headers)
    assert "namespace/name" in said(listed, "model", "parameter")
    shown = client.get("/v1/models/-acme/tiny", headers=ours.headers)
    assert "such as support-7b" in said(shown, "namespace", "parameter")


def test_an_external_id(client, ours, model):
    assert "such as ticket-4711" in said(submit(client, ours, model, external_id="a b"), "/external_id")


def test_an_idempotency_key(client, ours, model):
    headers = {**ours.headers, "Idempotency-Key": "a b"}
    body = {"model": model, "forget": [{"text": "a"}]}
    answer = client.post("/v1/erasure-requests", json=body, headers=headers)
    assert "such as a UUID" in said(answer, "idempotency-key", "parameter")


def test_names_of_keys_events_of_webhooks_and_digests(client, admin):
    def post(path, body):
        return client.post(path, json=body, headers=admin.headers)

    assert "such as fides connector" in said(post("/v1/keys", {"name": "-", "scopes": ["admin"]}), "/name")
    hook = {"url": "https://example.com/hooks", "events": ["version.publishd"]}
    assert "such as erasure_request." in said(post("/v1/webhooks", hook), "/events/0")
    file = {"path": "model.safetensors", "digest": "sha256:AB", "size_bytes": 1}
    assert "sha256sum" in said(post("/v1/uploads", {"files": [file]}), "/files/0/digest")


def test_an_id_in_a_path(client, ours):
    assert "as an answer gave it" in said(client.get("/v1/jobs/a-b", headers=ours.headers), "job_id", "parameter")


def test_what_ends_in_a_line_break_does_not_match(client, ours, model):
    said(submit(client, ours, model, external_id="a\n"), "/external_id")


def test_the_document_still_has_the_patterns(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["ErasureRequestIn"]["properties"]["model"]["pattern"].startswith("^[A-Za-z0-9]")
    assert "version\\.published" in schemas["WebhookIn"]["properties"]["events"]["items"]["pattern"]


def test_no_bare_pattern_is_left_in_what_callers_send():
    for file in Path(service.__path__[0]).rglob("*.py"):
        assert "pattern=r" not in file.read_text(encoding="utf-8"), f"{file}: give it words with service.shapes.Shape"


def test_an_unknown_parameter_is_looked_up_where_parameters_are(client, ours, model):
    answer = submit(client, ours, model, method="npo", parameters={"learning_rat": 1e-5})
    assert "GET /v1/methods" in said(answer, "/parameters/learning_rat")
    assert "/openapi.json" not in answer.text
    answer = submit(client, ours, model, policy={"memorised_gab": 0.1})
    assert "/openapi.json" in said(answer, "/policy/memorised_gab")
    assert "/openapi.json" in said(submit(client, ours, model, metod="npo"), "/metod")


@pytest.mark.parametrize("wished", [5, [1], "all", {"a": 1}])
def test_one_field_one_sentence(wished, client, ours, model):
    answer = submit(client, ours, model, method="undial", parameters={"tuning": "lora", "lora_targets": wished})
    expected = 'Give all-linear, or a list of module names such as ["q_proj", "v_proj"].'
    assert said(answer, "/parameters/lora_targets") == expected


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"focus": "hard", "focus_spans": "entities"}, "focus_spans"),
        ({"target": "exchange", "focus": "soft"}, "target"),
        ({"update_limit": 0.1, "tuning": "lora"}, "update_limit"),
    ],
)
def test_a_field_at_the_beginning_keeps_its_spelling(parameters, field, client, ours, model):
    assert said(submit(client, ours, model, method="undial", parameters=parameters), "/parameters").startswith(field)


def test_types_are_those_of_json(client, ours, model):
    assert said(submit(client, ours, model, parameters=[]), "/parameters") == "Give a JSON object."
    assert said(submit(client, ours, model, forget={}), "/forget") == "Give a list."
    wished = {"trained_layers": 3, "tuning": "named"}
    answer = submit(client, ours, model, method="npo", parameters=wished)
    assert said(answer, "/parameters/trained_layers") == "Give a list."


@pytest.mark.parametrize("wished", [{"epochs": True}, {"learning_rate": "0.001"}, {"gradient_checkpointing": 1}])
def test_a_value_of_another_type_than_the_schema_says_is_refused(wished, client, ours, model):
    [field] = wished
    said(submit(client, ours, model, method="undial", parameters=wished), f"/parameters/{field}")
    said(submit(client, ours, model, parameters=wished), f"/parameters/{field}")
    defaults = {"defaults": {"method": "undial", "parameters": wished}}
    answer = client.patch(f"/v1/models/{model}", json=defaults, headers=ours.headers)
    said(answer, f"/defaults/parameters/{field}")


def test_no_audit_entrie(client, ours):
    found = problem(client.get("/v1/audit/proofs/999999", headers=ours.headers), 404)
    assert found["detail"].startswith("No such audit entry.")
