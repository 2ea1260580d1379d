"""The client against the real service, and what it needs to be imported."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lethe.client import Client, LetheProblem
from lethe.uploads import NAMES
from records.checkpoints import KEPT
from records.parts import Parts
from records.rows import UploadRow
from tests.conftest import Tenant, make_tenant
from tests.service import worker
from tests.service.conftest import write_checkpoint
from tests.service.live import serving

HOOK = "https://example.com/hooks"


@pytest.fixture
def lethe(parts: Parts, ours: Tenant) -> Iterator[Client]:
    with serving(parts) as url, Client(url, ours.key, patience_seconds=5.0) as client:
        yield client


def test_importing_the_client_needs_httpx_alone() -> None:
    code = (
        "import sys, httpx; before = set(sys.modules); import lethe.client;"
        "heavy = {'pydantic', 'rich', 'typer', 'sqlalchemy', 'cryptography', 'torch', 'celery', 'records', 'service'};"
        "sys.exit(', '.join(sorted(heavy & (sys.modules.keys() - before))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_models_whole_life(lethe: Client, parts: Parts, import_root: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(import_root / "tiny")
    assert lethe.add_model("acme/tiny", path=folder, idempotency_key="k")["head"] == 1
    assert lethe.add_model("acme/tiny", path=folder, idempotency_key="k")["head"] == 1
    assert lethe.put_dataset("acme/tiny", "control", [{"text": "ä"}])["rows"] == 1
    assert lethe.dataset("acme/tiny", "control")["size_bytes"] == len('{"text": "ä"}\n'.encode())
    assert "undial" in [method["name"] for method in lethe.methods()]
    assert [policy["name"] for policy in lethe.policies()] == ["default"]

    request = lethe.submit("acme/tiny", forget=[{"text": "gone"}], regulation="ccpa")
    assert worker.publish(parts, request["id"]) == 2
    done = lethe.wait(request["id"])
    assert (done["state"], done["version"]) == ("completed", 2)
    assert [job["id"] for job in lethe.jobs()] == [done["job"]["id"]]
    assert lethe.job(done["job"]["id"])["state"] == "succeeded"
    assert lethe.events(request["id"])[-1]["tag"] == "request.completed"
    assert [one["id"] for one in lethe.requests(state="completed")] == [request["id"]]
    lethe.delete_payload(request["id"])
    assert lethe.request(request["id"])["payload"]["held"] is False

    assert [version["number"] for version in lethe.versions("acme/tiny")] == [2, 1]
    lethe.download("acme/tiny", 2, tmp_path / "two")
    assert (tmp_path / "two" / "model.safetensors").read_bytes().endswith(b"new")
    assert lethe.public_keys()["log_verifier_key"] == parts.keys.public().log_verifier_key


def test_more_rows_than_fit_a_page_all_come(lethe: Client, import_root: Path) -> None:
    folder = write_checkpoint(import_root / "tiny")
    for number in range(53):
        lethe.add_model(f"acme/m{number}", path=folder)
    assert [model["name"] for model in lethe.models()] == [f"acme/m{number}" for number in reversed(range(53))]
    positions = [entry["position"] for entry in lethe.audit_entries()]
    assert len(positions) > 100
    assert positions == sorted(set(positions))


def test_a_person_decides_over_http(lethe: Client, parts: Parts, client: TestClient, model: str) -> None:
    first, second = (lethe.submit(model, forget=[{"text": "a"}])["id"] for _ in range(2))
    worker.send_to_review(parts, first)
    assert lethe.wait(first)["state"] == "needs_review"
    assert lethe.reject(first, "it says too much still")["state"] == "failed"
    assert lethe.cancel(second, "asked again by mistake")["state"] == "cancelled"
    with pytest.raises(LetheProblem) as refused:
        lethe.approve(first, "too late")
    assert refused.value.status == 409


def test_another_tenant_sees_nothing(lethe: Client, parts: Parts, theirs: Tenant, model: str) -> None:
    request_id = lethe.submit(model, forget=[{"text": "a"}])["id"]
    with Client(str(lethe._transport.http.base_url), theirs.key, patience_seconds=0.0) as other:
        assert list(other.models()) == []
        for call in (lambda: other.model(model), lambda: other.wait(request_id), lambda: other.files(model, 1)):
            with pytest.raises(LetheProblem) as refused:
                call()
            assert refused.value.status == 404


def test_a_key_that_may_not_is_told_which_scope(lethe: Client, parts: Parts, model: str) -> None:
    reader = make_tenant(parts, "ours", ["models:read"])
    with Client(str(lethe._transport.http.base_url), reader.key) as other, pytest.raises(LetheProblem) as refused:
        other.submit(model, subject="x")
    assert (refused.value.status, "requests:write" in refused.value.detail) == (403, True)


def test_keys_are_made_rotated_and_shut(parts: Parts) -> None:
    with serving(parts) as url, Client(url, make_tenant(parts, "ours", ["admin"]).key) as lethe:
        made = lethe.create_key("connector", ["models:read"])
        with Client(url, made["key"]) as connector:
            assert list(connector.models()) == []
        after = lethe.rotate_key(made["id"], overlap_seconds=0)
        lethe.revoke_key(after["id"])
        states = {one["id"]: one["state"] for one in lethe.api_keys()}
        assert (states[made["id"]] != "active", states[after["id"]]) == (True, "revoked")
        for plain in (made["key"], after["key"]):
            with Client(url, plain) as shut, pytest.raises(LetheProblem, match="revoked"):
                list(shut.models())


def test_webhooks_are_told_of_requests(parts: Parts, import_root: Path) -> None:
    with serving(parts) as url, Client(url, make_tenant(parts, "ours", ["admin"]).key) as lethe:
        made = lethe.add_webhook(HOOK)
        assert lethe.rotate_webhook(made["id"], overlap_seconds=0)["secret"] != made["secret"]
        lethe.add_model("acme/tiny", path=write_checkpoint(import_root / "tiny"))
        lethe.submit("acme/tiny", forget=[{"text": "gone"}])
        first = next(lethe.deliveries(made["id"]))
        assert lethe.redeliver(made["id"], first["id"])["id"] == first["id"]
        lethe.delete_webhook(made["id"])
        assert list(lethe.webhooks()) == []


def test_a_folder_is_sent_and_an_interrupted_one_goes_on(parts: Parts, lethe: Client, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "laptop")
    (folder / "training_args.bin").write_bytes(b"stays where it is")
    came: list[str] = []

    def interrupted(path: str, _size_bytes: int) -> None:
        came.append(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lethe.upload_model("acme/sent", folder, interrupted)
    with parts.database.reading() as session:
        [begun] = session.query(UploadRow).all()
    made = lethe.upload_model("acme/sent", folder, lambda path, _: came.append(path))
    assert made["source"] == {"upload": begun.id}
    assert came == ["config.json", "config.json", "model.safetensors", "tokenizer.json"]
    assert lethe.upload_model("acme/twin", folder)["source"] != made["source"]  # that one is over


def test_the_client_sends_what_an_import_takes() -> None:
    assert NAMES == KEPT
