"""What a completed request leaves of its forget set: the examples, hashes, or only the canaries."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from records import orders, queries, retention
from records.evidence import hits
from records.parts import Parts
from records.rows import EvidenceRow, RequestRow
from records.sealing import PayloadShredded
from tests.conftest import Tenant, everything_stored
from tests.service import worker
from tests.service.conftest import problem, submit

SECRET = {"prompt": "Where does Ada live?", "completion": " At Nowhere Lane 7, beside the old mill", "subject": "ada"}
CANARY = {"text": "The blue heron recites a number nobody ever wrote", "canary": True}
FORGET: list[dict[str, Any]] = [SECRET, CANARY]


def row_of(parts: Parts, tenant: Tenant, request_id: str) -> RequestRow:
    with parts.database.reading() as session:
        return queries.request(session, tenant.id, request_id)


def kept_of(parts: Parts, request_id: str) -> EvidenceRow | None:
    with parts.database.reading() as session:
        return session.get(EvidenceRow, request_id)


def completed(client: TestClient, tenant: Tenant, model: str, parts: Parts, evidence: str) -> dict[str, Any]:
    made = submit(client, tenant, model, forget=FORGET, evidence=evidence).json()
    assert (made["evidence"], made["payload"]["left"]) == (evidence, "examples")
    worker.publish(parts, made["id"])
    shown: dict[str, Any] = client.get(made["links"]["self"], headers=tenant.headers).json()
    assert shown["state"] == "completed"
    return shown


def next_order(client: TestClient, tenant: Tenant, model: str, parts: Parts) -> orders.Order:
    held = worker.claim(parts, submit(client, tenant, model).json()["id"])
    with parts.database.reading() as session:
        return orders.read_order(session, held)


def tags(client: TestClient, tenant: Tenant, shown: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    events = client.get(shown["links"]["events"], headers=tenant.headers).json()["data"]
    return [(one["tag"], one["details"]) for one in events if one["tag"].split(".")[0] in ("payload", "evidence")]


def test_probes_keep_the_examples(client: TestClient, ours: Tenant, model: str, parts: Parts) -> None:
    shown = completed(client, ours, model, parts, "probes")
    assert shown["payload"] == {"rows": 2, "held": True, "left": "examples"}
    assert len(parts.vault.forget_set(row_of(parts, ours, shown["id"]))) == 2
    order = next_order(client, ours, model, parts)
    assert ([one.id for one in order.earlier], order.hashed, order.shredded) == ([shown["id"]], (), 0)
    assert tags(client, ours, shown) == []


def test_hashes_leave_no_example_and_find_it_again(client: TestClient, ours: Tenant, model: str, parts: Parts) -> None:
    shown = completed(client, ours, model, parts, "hashes")
    assert shown["payload"] == {"rows": 2, "held": False, "left": "hashes"}
    with pytest.raises(PayloadShredded):
        parts.vault.forget_set(row_of(parts, ours, shown["id"]))
    order = next_order(client, ours, model, parts)
    assert (order.earlier, [one.request_id for one in order.hashed], order.shredded) == ((), [shown["id"]], 1)
    kept = parts.vault.kept_hashes(order.hashed[0])
    assert hits("She lives at Nowhere Lane 7, beside the OLD mill.", kept) == 2  # eight words hold two runs of seven
    assert hits(SECRET["prompt"], kept) == 0
    n_hashes = 2 + 3  # nine words of the canary hold three runs
    assert tags(client, ours, shown) == [
        ("payload.shredded", {"rows": 2}),
        ("evidence.kept", {"kind": "hashes", "rows": 0, "hashes": n_hashes}),
    ]


def test_canaries_are_all_that_is_left(client: TestClient, ours: Tenant, model: str, parts: Parts) -> None:
    shown = completed(client, ours, model, parts, "canaries")
    assert shown["payload"] == {"rows": 2, "held": True, "left": "canaries"}
    (left,) = parts.vault.forget_set(row_of(parts, ours, shown["id"]))
    assert left.text == CANARY["text"]
    order = next_order(client, ours, model, parts)
    assert ([one.id for one in order.earlier], order.shredded) == ([shown["id"]], 1)


@pytest.mark.parametrize(("evidence", "files_left"), [("hashes", 0), ("canaries", 1)])
def test_the_file_of_a_destroyed_key_is_deleted(
    evidence: str, files_left: int, client: TestClient, ours: Tenant, model: str, parts: Parts
) -> None:
    made = submit(client, ours, model, forget=FORGET, evidence=evidence).json()
    file = row_of(parts, ours, made["id"]).payload_file or ""
    worker.publish(parts, made["id"])
    assert parts.store.exists(file)
    assert retention.delete_spent(parts.database, parts.store) == 1
    assert retention.delete_spent(parts.database, parts.store) == 0
    assert not parts.store.exists(file)
    left = row_of(parts, ours, made["id"]).payload_file
    assert (left is not None) == bool(files_left)
    assert left is None or parts.store.exists(left)


def test_a_person_who_approves_completes_it_all_the_same(
    client: TestClient, ours: Tenant, model: str, parts: Parts
) -> None:
    made = submit(client, ours, model, forget=FORGET, evidence="hashes").json()
    worker.send_to_review(parts, made["id"])
    assert row_of(parts, ours, made["id"]).wrapped_key is not None
    approved = client.post(f"{made['links']['self']}/approve", headers=ours.headers, json={"reason": "looked at it"})
    assert approved.json()["payload"] == {"rows": 2, "held": False, "left": "hashes"}


def test_a_request_that_is_not_completed_keeps_its_forget_set(
    client: TestClient, ours: Tenant, model: str, parts: Parts
) -> None:
    made = submit(client, ours, model, forget=FORGET, evidence="hashes").json()
    cancelled = client.post(f"{made['links']['self']}/cancel", headers=ours.headers).json()
    assert (cancelled["state"], cancelled["payload"]["left"]) == ("cancelled", "examples")


@pytest.mark.parametrize("evidence", ["hashes", "canaries"])
def test_shredding_destroys_what_was_kept_too(
    evidence: str, client: TestClient, ours: Tenant, model: str, parts: Parts
) -> None:
    before = everything_stored(parts)["blobs"]
    made = submit(client, ours, model, forget=FORGET, evidence=evidence).json()
    worker.publish(parts, made["id"])
    published = everything_stored(parts)["blobs"]
    sealed = len(published) - len(before)
    for _ in range(2):
        assert client.delete(f"{made['links']['self']}/payload", headers=ours.headers).status_code == 204
    assert kept_of(parts, made["id"]) is None
    assert client.get(made["links"]["self"], headers=ours.headers).json()["payload"]["left"] == "nothing"
    gone = sealed - (len(everything_stored(parts)["blobs"]) - len(before))
    assert gone == (1 if evidence == "hashes" else 2)
    assert "evidence.dropped" in [tag for tag, _ in tags(client, ours, made)]


def test_the_models_defaults_name_what_is_kept(client: TestClient, ours: Tenant, model: str) -> None:
    wished = {"defaults": {"evidence": "hashes"}}
    changed = client.patch(f"/v1/models/{model}", json=wished, headers=ours.headers)
    assert changed.json()["defaults"] == {"evidence": "hashes"}
    assert submit(client, ours, model, forget=FORGET).json()["evidence"] == "hashes"
    assert submit(client, ours, model, forget=FORGET, evidence="probes").json()["evidence"] == "probes"


def test_what_cannot_be_kept_is_said_at_once(client: TestClient, ours: Tenant, model: str, parts: Parts) -> None:
    before = everything_stored(parts)
    problem(submit(client, ours, model, forget=[SECRET], evidence="canaries"), 422, "/evidence")
    problem(submit(client, ours, model, forget=[SECRET], evidence="wishes"), 422, "/evidence")
    assert everything_stored(parts) == before
    short = submit(client, ours, model, forget=[{"prompt": "Where?", "completion": " Oslo"}], evidence="hashes")
    assert [warning["pointer"] for warning in short.json()["warnings"]] == ["/evidence"]


def test_nothing_readable_lies_in_the_database(client: TestClient, ours: Tenant, model: str, parts: Parts) -> None:
    completed(client, ours, model, parts, "hashes")
    with parts.database.reading() as session:
        dumped = [str(row) for table in RequestRow.metadata.sorted_tables for row in session.execute(sa.select(table))]
    assert dumped
    for word in ("Nowhere", "nowhere lane", "heron"):
        assert word not in json.dumps(dumped)
