"""Liveness, readiness, metrics: open to all, and telling nothing about tenants."""

import shutil
from datetime import timedelta

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from records import gauges, migrate
from records.base import utc_now
from records.database import Database, make_engine
from records.rows import JobRow, ModelRow, RequestRow
from service.main import create_app
from tests.postgres import postgres_database
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


def metrics_of(client):
    """(name, *label values) -> value."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def test_metrics_tell_who_waits_how_long_and_what_became_of_it(client, ours, model, parts):
    worker.publish(parts, submit(client, ours, model).json()["id"])
    worker.send_to_review(parts, submit(client, ours, model).json()["id"])
    held = worker.claim(parts, submit(client, ours, model).json()["id"])
    now = utc_now()
    with parts.database.engine.begin() as connection:
        connection.execute(sa.update(ModelRow).values(lease_expires_at=1.0))
        connection.execute(sa.update(JobRow).where(JobRow.id == held.job_id).values(executions=3))
        times = {
            "created_at": now,
            "started_at": now + timedelta(seconds=5),
            "finished_at": now + timedelta(seconds=70),
        }
        connection.execute(sa.update(JobRow).where(JobRow.finished_at.is_not(None)).values(times))
        connection.execute(sa.update(JobRow).where(JobRow.id == held.job_id).values(started_at=None))
        connection.execute(sa.update(RequestRow).values(due_at=now + timedelta(hours=1)))
    submit(client, ours, model)
    found = metrics_of(client)
    assert found["lethe_attempts", "accepted", "undial"] == found["lethe_attempts", "needs_review", "undial"] == 1
    counts = [found[(name,)] for name in ("lethe_job_restarts", "lethe_leases_expired", "lethe_models_held")]
    assert counts == [2, 1, 0]
    assert found["lethe_jobs_waiting", "cpu"] == 1
    waits = [found["lethe_job_wait_seconds_bucket", most] for most in ("1.0", "10.0", "+Inf")]
    runs = [found["lethe_job_run_seconds_bucket", most] for most in ("60.0", "300.0", "+Inf")]
    assert (waits, runs) == ([0, 2, 2], [0, 2, 2])
    assert found[("lethe_job_run_seconds_sum",)] == pytest.approx(130, abs=0.01)
    assert 0 < found[("lethe_deadline_seconds",)] <= 3600
    assert found[("lethe_versions_bytes",)] > 0
    assert found[("lethe_disk_free_bytes",)] > 0


def test_without_its_database_it_tells_of_its_calls(client, parts):
    client.get("/healthz")
    with parts.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME TO elsewhere")
    found = metrics_of(client)
    assert found[("lethe_database_answers",)] == 0
    assert found["lethe_http_calls_total", "/healthz", "200", "GET"] == 1
    assert ("lethe_models",) not in found
    assert ("lethe_deadline_seconds",) not in found


@pytest.mark.postgres
def test_postgres_counts_the_same(parts):
    with postgres_database() as url:
        engine = make_engine(url, 2)
        migrate.upgrade(engine)
        database = Database(engine, parts.database.signer)
        with database.reading() as session:
            found, totals = gauges.read(session), gauges.totals(session)
        database.dispose()
    with parts.database.reading() as session:
        assert (found, totals) == (gauges.read(session), gauges.totals(session))


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_no_key_needed(path, client):
    assert client.get(path).status_code == 200
