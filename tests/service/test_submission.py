"""Taking requests in: what is stored, what is refused, and that a refusal stores nothing."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from records import outbox, queries
from records.params import PARAMETERS
from records.rows import OutboxRow
from service.erasure_requests.deadlines import due_at
from service.erasure_requests.schemas import Regulation
from tests.conftest import everything_stored, make_tenant
from tests.service.conftest import CONTEXT_TOKENS, problem, put_lines, submit, write_checkpoint

EXAMPLE = {"prompt": "Where does Ada live?", "completion": " Nowhere Lane 7", "subject": "Ada"}


def test_a_request_is_queued_with_its_sealed_forget_set(client, ours, model, parts):
    answer = submit(client, ours, model, forget=[EXAMPLE, {"text": "Ada again"}], external_id="case-17")
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == body["links"]["self"] == f"/v1/erasure-requests/{body['id']}"
    assert int(answer.headers["retry-after"]) >= 1
    assert (body["state"], body["method"], body["position"], body["payload"]) == (
        "queued", "undial", 0, {"rows": 2, "held": True, "left": "examples"},
    )  # fmt: skip
    assert body["parameters"] == PARAMETERS["undial"]().model_dump(mode="json")
    assert len(body["policy_digest"]) == 64
    with parts.database.reading() as session:
        row = queries.request(session, ours.id, body["id"])
    assert [example.completion or example.text for example in parts.vault.forget_set(row)] == [
        " Nowhere Lane 7",
        "Ada again",
    ]
    assert b"Nowhere" not in parts.store.read_bytes(row.payload_file or "")
    for file in parts.settings.place.folder.rglob("*"):
        assert file.is_dir() or b"Nowhere" not in file.read_bytes()


def test_the_hint_goes_out_after_the_commit(client, ours, model, parts):
    submit(client, ours, model)
    with parts.database.reading() as session:
        sent = session.query(OutboxRow).all()
        model_id = queries.model_named(session, ours.id, model).id
    assert [(row.topic, row.body, row.sent_at is None) for row in sent] == [
        (outbox.HINT, {"model_id": model_id, "needs": "cpu"}, False)
    ]


def test_a_broker_that_is_away_costs_nothing(client, ours, model, parts, monkeypatch, capsys):
    def away(queue: object, topic: str, body: object) -> None:
        raise ConnectionError("a broker with a password in its URL")

    monkeypatch.setattr("records.parts.send_hint", away)
    assert submit(client, ours, model).status_code == 202
    with parts.database.reading() as session:
        assert [row.sent_at for row in session.query(OutboxRow)] == [None]
    printed = capsys.readouterr().out
    assert "ConnectionError" in printed
    assert "password" not in printed


def test_requests_of_one_model_wait_in_line(client, ours, model):
    answers = [submit(client, ours, model).json() for _ in range(3)]
    assert [answer["position"] for answer in answers] == [0, 1, 2]
    listed = client.get("/v1/erasure-requests", headers=ours.headers).json()["data"]
    assert [item["position"] for item in listed] == [2, 1, 0]


def test_a_subject_is_looked_up_in_the_training_dataset(client, ours, model, parts):
    rows = [{"text": f"row {number}", "subject": "Zo\u00eb" if number % 2 else "Max"} for number in range(7)]
    put_lines(client, ours, model, "training", rows)
    answer = submit(client, ours, model, subject=" Zoe\u0308 ")
    assert answer.status_code == 202
    with parts.database.reading() as session:
        row = queries.request(session, ours.id, answer.json()["id"])
    assert [example.text for example in parts.vault.forget_set(row)] == ["row 1", "row 3", "row 5"]
    assert row.subject_reference == parts.vault.subject_reference(ours.id, "Zo\u00eb")
    assert row.subject_references == [row.subject_reference]


def test_a_reference_is_kept_of_everybody_whom_the_examples_name(client, ours, model, parts):
    named = ["Zo\u00eb", " Zoe\u0308", "Max", " ", None]
    answer = submit(client, ours, model, forget=[{"text": "a"} | ({"subject": one} if one else {}) for one in named])
    with parts.database.reading() as session:
        row = queries.request(session, ours.id, answer.json()["id"])
    wanted = {parts.vault.subject_reference(ours.id, one) for one in ("Max", "Zo\u00eb")}
    assert (set(row.subject_references), len(row.subject_references)) == (wanted, 2)
    assert row.subject_reference is None


def test_a_subject_in_no_row_is_completed_at_once(client, ours, model, parts):
    put_lines(client, ours, model, "training", [{"text": "a", "subject": "Max"}])
    before = everything_stored(parts)["blobs"]
    answer = submit(client, ours, model, subject="Nobody")
    assert answer.status_code == 202
    body = answer.json()
    assert (body["state"], body["outcome"], body["done"], body["job"]) == ("completed", "no_match", True, None)
    assert everything_stored(parts)["blobs"] == before
    events = client.get(body["links"]["events"], headers=ours.headers).json()["data"]
    assert [event["tag"] for event in events] == ["request.received", "request.completed"]


def test_a_subject_in_no_row_is_said_to_be_so(client, ours, model):
    put_lines(client, ours, model, "training", [{"text": "a", "subject": "Bo"}])
    [warning] = submit(client, ours, model, subject="bo").json()["warnings"]
    assert warning["pointer"] == "/subject"
    assert warning["detail"].startswith("No training row has this subject")
    assert "letter for letter" in warning["detail"]
    assert submit(client, ours, model, subject="Bo").json()["warnings"] == []


@pytest.mark.parametrize("subject", ["   ", "\n\t", "\u2003"])
def test_a_blank_subject_is_refused(subject, client, ours, model, parts):
    put_lines(client, ours, model, "training", [{"text": "a", "subject": "Bo"}])
    before = everything_stored(parts)
    found = problem(submit(client, ours, model, subject=subject), 422, "/subject")
    assert "blank" in found["detail"]
    assert everything_stored(parts) == before


def test_a_training_dataset_without_subjects_answers_nothing(client, ours, model, parts):
    put_lines(client, ours, model, "training", [{"text": "a"}])
    before = everything_stored(parts)
    problem(submit(client, ours, model, subject="Nobody"), 422, "/subject")
    assert everything_stored(parts) == before


def test_a_subject_with_more_rows_than_the_limit_is_refused(client, ours, model, parts):
    put_lines(client, ours, model, "training", [{"text": "a", "subject": "Max"}] * 51)
    before = everything_stored(parts)
    problem(submit(client, ours, model, subject="Max"), 422, "/subject")
    assert everything_stored(parts) == before


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"method": "magic"}, "/method"),
        ({"parameters": {"learning_rate": 5}}, "/parameters/learning_rate"),
        ({"parameters": {"learning_rate": "fast"}}, "/parameters/learning_rate"),
        ({"parameters": {"lora_targets": 5}}, "/parameters/lora_targets"),
        ({"parameters": {"warp": 1}}, "/parameters/warp"),
        ({"policy": {"retain_drop": {"accept": 1, "reject": 0}}}, "/policy/retain_drop"),
        ({"policy": {"memorised_gap": 2}}, "/policy/memorised_gap"),
        ({"policy": {"memorised_gap": 0.5}}, "/policy/memorised_gap"),
        ({"policy": {"surprise": 1}}, "/policy/surprise"),
        ({"policy": {"name": "none"}}, "/policy/name"),
        ({"forget": []}, "/forget"),
        ({"forget": [{"text": "a"}] * 51}, "/forget"),
        ({"forget": [{"prompt": "a"}]}, "/forget/0"),
        ({"forget": [{"text": "a"}, {"text": "b", "prompt": "c"}]}, "/forget/1"),
        ({"forget": [{"text": ""}]}, "/forget/0/text"),
        ({"forget": [{"text": "a"}], "subject": "Ada"}, ""),
        ({"forget": None}, ""),
        ({"subject": "Ada", "forget": None}, "/subject"),
        ({"regulation": "hipaa"}, "/regulation"),
        ({"submitted_at": "yesterday"}, "/submitted_at"),
        ({"submitted_at": "2026-01-01T00:00:00"}, "/submitted_at"),
        ({"submitted_at": "2999-01-01T00:00:00Z"}, "/submitted_at"),
        ({"external_id": "ada@example.org"}, "/external_id"),
        ({"upload": "upl_1"}, "/upload"),
        ({"model": "nonsense"}, "/model"),
    ],
)
def test_bad_values_are_refused_with_a_pointer_and_nothing_stored(change, pointer, client, ours, model, parts):
    before = everything_stored(parts)
    body = {"model": model, "forget": [EXAMPLE], **change}
    answer = client.post("/v1/erasure-requests", json=body, headers=ours.headers)
    problem(answer, 422, pointer)
    assert "Ada" not in answer.text
    assert "Nowhere" not in answer.text
    assert everything_stored(parts) == before


def test_an_unknown_or_foreign_model_is_404_at_its_field(client, ours, theirs, model, parts):
    before = everything_stored(parts)
    problem(submit(client, ours, "acme/none"), 404, "/model")
    problem(submit(client, theirs, model), 404, "/model")
    assert everything_stored(parts) == before


def test_scope_and_key_are_needed(client, ours, model, parts):
    reader = make_tenant(parts, "ours", ["requests:read"])
    before = everything_stored(parts)
    problem(submit(client, reader, model), 403, code="forbidden")
    answer = client.post("/v1/erasure-requests", json={"model": model})
    problem(answer, 401, code="unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert everything_stored(parts) == before


def test_a_body_over_the_limit_is_413(client, ours, model, parts):
    before = everything_stored(parts)
    problem(submit(client, ours, model, forget=[{"text": "x" * 70_000}]), 413, code="too_large")
    assert everything_stored(parts) == before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 60_000, b'{"model": NaN}', b'"text"', b'{"a":' * 500 + b"1" + b"}" * 500]
)
def test_a_body_that_is_no_json_object_is_422(content, client, ours, parts):
    before = everything_stored(parts)
    headers = {**ours.headers, "Content-Type": "application/json"}
    problem(client.post("/v1/erasure-requests", content=content, headers=headers), 422)
    assert everything_stored(parts) == before


def test_an_example_over_the_context_is_taken_and_explained(client, ours, model):
    longer = {"prompt": "p" * 40, "completion": "c" * 40}
    body = submit(client, ours, model, forget=[EXAMPLE, longer]).json()
    assert [warning["pointer"] for warning in body["warnings"]] == ["/forget/1"]
    assert str(CONTEXT_TOKENS) in body["warnings"][0]["detail"]
    assert "split" in body["warnings"][0]["detail"]


def test_the_models_defaults_fill_what_the_request_leaves_out(client, ours, import_root):
    folder = write_checkpoint(import_root / "m")
    defaults = {"method": "auto", "parameters": {"epochs": 3, "strength": 4.0}, "policy": {"min_forget_items": 5}}
    body = {"name": "acme/d", "source": {"path": str(folder)}, "defaults": defaults}
    assert client.post("/v1/models", json=body, headers=ours.headers).status_code == 201
    made = submit(client, ours, "acme/d", parameters={"epochs": 5}, policy={"min_control_items": 20}).json()
    assert (made["parameters"]["epochs"], made["parameters"]["strength"]) == (5, 4.0)
    assert (made["policy"]["min_forget_items"], made["policy"]["min_control_items"]) == (5, 20)


def import_model(client, ours, import_root, defaults=None, **config):
    folder = write_checkpoint(import_root / "m", **config)
    body = {"name": "acme/m", "source": {"path": str(folder)}, "defaults": defaults or {}}
    assert client.post("/v1/models", json=body, headers=ours.headers).status_code == 201
    return "acme/m"


PROSE = "the quiet river carries its silt past the mill and leaves a little of it in every bend it takes on the way "
TOPIC = [{"text": PROSE * 2 + "again" * at} for at in range(50)]


def test_auto_says_what_it_chose_for_somebodys_records_and_why(client, ours, model):
    made = submit(client, ours, model, forget=[EXAMPLE, {"text": "Ada again"}]).json()
    assert (made["method"], made["choice"]["by"]) == ("undial", "auto")
    why, held = made["choice"]["reasons"]
    assert "1 of 2 examples are prompts with their answers, about 1 subject" in why
    assert "text that the LLM writes by itself" in held
    shown = client.get(made["links"]["self"], headers=ours.headers).json()
    assert shown["choice"] == made["choice"]
    assert "Ada" not in json.dumps(made["choice"])


def test_auto_takes_falcon_for_a_topic_where_the_llm_and_the_datasets_allow_it(client, ours, import_root):
    name = import_model(client, ours, import_root, num_hidden_layers=16)
    put_lines(client, ours, name, "utility", [{"text": "something else"}])
    made = submit(client, ours, name, forget=TOPIC).json()
    assert (made["method"], made["choice"]["by"]) == ("falcon", "auto")
    assert made["parameters"] == PARAMETERS["falcon"](retain_source="utility").model_dump(mode="json")
    assert "50 long texts that name no subject" in made["choice"]["reasons"][0]
    assert "half of the utility dataset" in made["choice"]["reasons"][1]


def test_parameters_of_one_method_lead_auto_to_it(client, ours, import_root):
    name = import_model(client, ours, import_root, num_hidden_layers=16)
    put_lines(client, ours, name, "retain", [{"text": "something else"}])
    made = submit(client, ours, name, forget=TOPIC, parameters={"strength": 10}).json()
    assert (made["method"], made["parameters"]["strength"]) == ("undial", 10)
    assert "the parameters given are not its own" in made["choice"]["reasons"][0]


def test_a_method_asked_for_by_name_runs_as_it_was_asked_for(client, ours, model, parts):
    made = submit(client, ours, model, method="npo").json()
    assert made["choice"] == {"by": "request", "reasons": []}
    assert made["parameters"] == PARAMETERS["npo"]().model_dump(mode="json")
    with parts.database.reading() as session:
        assert queries.request(session, ours.id, made["id"]).choice["open"] == []


def test_the_models_default_method_wins_over_auto(client, ours, import_root):
    name = import_model(client, ours, import_root, {"method": "simnpo", "parameters": {"epochs": 3}})
    made = submit(client, ours, name).json()
    assert (made["method"], made["parameters"]["epochs"]) == ("simnpo", 3)
    assert made["choice"] == {"by": "model", "reasons": ["the model's defaults name simnpo"]}


def test_only_what_nobody_set_is_left_open_to_the_worker(client, ours, import_root, parts):
    name = import_model(client, ours, import_root, {"parameters": {"tuning": "full"}})
    made = submit(client, ours, name, parameters={"micro_batch_size": 2}).json()
    with parts.database.reading() as session:
        assert queries.request(session, ours.id, made["id"]).choice["open"] == ["gradient_checkpointing"]


@pytest.mark.parametrize(
    ("regulation", "submitted", "due"),
    [
        ("gdpr", "2026-01-31T10:00:00+00:00", "2026-02-28T10:00:00+00:00"),
        ("gdpr", "2024-01-30T10:00:00+00:00", "2024-02-29T10:00:00+00:00"),
        ("gdpr", "2026-12-15T00:00:00+00:00", "2027-01-15T00:00:00+00:00"),
        ("ccpa", "2026-01-01T00:00:00+00:00", "2026-02-15T00:00:00+00:00"),
        ("other", "2026-01-01T00:00:00+00:00", "2026-01-31T00:00:00+00:00"),
    ],
)
def test_deadlines(regulation, submitted, due):
    assert due_at(Regulation(regulation), datetime.fromisoformat(submitted)) == datetime.fromisoformat(due)


def test_the_deadline_counts_from_when_the_person_asked(client, ours, model):
    asked = datetime.now(UTC) - timedelta(days=10)
    body = submit(client, ours, model, regulation="ccpa", submitted_at=asked.isoformat()).json()
    assert datetime.fromisoformat(body["due_at"]) == asked + timedelta(days=45)


def test_nothing_personal_in_answers_logs_or_the_audit_log(client, ours, model, capsys):
    answer = submit(client, ours, model, forget=[EXAMPLE])
    entries = client.get("/v1/audit/entries", headers=ours.headers).text
    events = client.get(answer.json()["links"]["events"], headers=ours.headers).text
    printed = capsys.readouterr()
    for text in (answer.text, entries, events, printed.out, printed.err):
        assert "Nowhere" not in text
        assert "Ada" not in text
    assert json.loads(entries)["data"]
