"""Liveness, readiness, metrics: open to all, and telling nothing about tenants."""

import shutil

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from records import migrate
from service.main import create_app
from tests.service import worker
from tests.service.conftest import submit


def ready(parts, worker_alive=None):
    with TestClient(create_app(parts, worker_alive)) as client:
        answer = client.get("/readyz")
        return answer.status_code, answer.json()


def test_alive_needs_no_key_and_no_database(client, parts):
    parts.database.dispose()
    assert client.get("/healthz").json() == {"status": "ok"}


def test_ready_when_all_parts_work(parts):
    checks = {"database": "ok", "schema": "ok", "store": "ok"}
    assert ready(parts) == (200, {"status": "ready", "checks": checks})
    assert ready(parts, lambda: True) == (200, {"status": "ready", "checks": {**checks, "worker": "ok"}})


def test_a_dead_worker_thread_is_not_ready(parts):
    status, body = ready(parts, lambda: False)
    assert (status, body["status"], body["checks"]["worker"]) == (503, "not_ready", "failed")


def test_an_old_schema_is_not_ready(parts):
    migrate.downgrade(parts.database.engine, "base")
    status, body = ready(parts)
    assert (status, body["checks"]["schema"], body["checks"]["database"]) == (503, "failed", "ok")


def test_a_store_that_takes_no_writes_is_not_ready(parts):
    shutil.rmtree(parts.store.root / "tmp")
    status, body = ready(parts)
    assert (status, body["checks"]["store"]) == (503, "failed")


def test_looking_leaves_nothing_in_the_store(parts):
    ready(parts)
    assert parts.store.usage().temporary_bytes == 0
    assert list(parts.store.iter_digests()) == []


def test_metrics_count_rows_and_calls_without_names(client, ours, model, parts):
    first = submit(client, ours, model).json()["id"]
    submit(client, ours, model)
    worker.claim(parts, first)
    text = client.get("/metrics").text
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["lethe_requests", "queued"] == 1
    assert found["lethe_requests", "running"] == 1
    assert found["lethe_versions", "published"] == 1
    assert found[("lethe_models_held",)] == 1
    assert found[("lethe_queue_oldest_seconds",)] >= 0
    assert found[("lethe_outbox_waiting",)] == 0
    assert found["lethe_http_calls_total", "/v1/erasure-requests", "202", "POST"] == 2
    assert ours.id not in text
    assert model not in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_no_key_needed(path, client):
    assert client.get(path).status_code == 200
