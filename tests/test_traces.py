"""Traces: one from the POST to the version, over the queue and processes; nothing personal in it; never in the way."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from records import tracing
from records.errors import Invalid
from records.parts import Parts
from service.main import create_app
from tests.collector import Collector, Told, collecting
from tests.conftest import Tenant
from tests.embedded import MODEL, embedded, import_root_of_people, register_people
from tests.make_people import TRAINED
from tests.service.conftest import client, model, submit
from tests.test_what_is_logged import MARK, PERSONAL
from tests.workers.conftest import job_row
from tests.workers.test_supervisor import supervisor

__all__ = ["client", "import_root_of_people", "model"]

CALLERS_TRACE, CALLERS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def told() -> Iterator[InMemorySpanExporter]:
    """What this process traces."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)


def named(told: InMemorySpanExporter, name: str) -> ReadableSpan:
    (found,) = [span for span in told.get_finished_spans() if span.name == name]
    return found


def trace_of(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"


def test_a_calls_span_is_named_by_its_route(told: InMemorySpanExporter, client: TestClient, ours: Tenant) -> None:
    client.get(f"/v1/erasure-requests/{MARK}?q={MARK}", headers={**ours.headers, "User-Agent": MARK})
    client.request(MARK, f"/{MARK}?{MARK}={MARK}", headers=ours.headers)
    spans = told.get_finished_spans()
    assert [span.name for span in spans] == ["GET /v1/erasure-requests/{request_id}", "other none"]
    assert dict(spans[0].attributes or {}).keys() == {
        "lethe.call_id", "lethe.tenant_id", "lethe.key_id",
        "http.request.method", "http.route", "http.response.status_code",
    }  # fmt: skip
    assert MARK.lower() not in "".join(span.to_json() for span in spans).lower()


def test_a_call_belongs_to_its_callers_trace(told: InMemorySpanExporter, client: TestClient, ours: Tenant) -> None:
    client.get("/v1/methods", headers={**ours.headers, "traceparent": f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-01"})
    client.get("/v1/keys", headers={**ours.headers, "traceparent": f"{MARK}-00-00"})
    assert trace_of(named(told, "GET /v1/methods")) == CALLERS_TRACE
    assert trace_of(named(told, "GET /v1/keys")) != CALLERS_TRACE


def test_who_only_looks_whether_we_live_leaves_no_trace(told: InMemorySpanExporter, client: TestClient) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200
    assert told.get_finished_spans() == ()


def test_a_defect_is_told_by_its_class(told: InMemorySpanExporter, parts: Parts, ours: Tenant) -> None:
    app = create_app(parts)

    @app.get("/v1/broken")
    def broken() -> None:
        with tracing.span("inside"):
            raise RuntimeError(f"the name is {MARK}")

    with TestClient(app) as client:
        assert client.get("/v1/broken", headers=ours.headers).status_code == 500
    inside = named(told, "inside")
    assert (inside.status.description, inside.events) == ("RuntimeError", ())
    assert MARK not in "".join(span.to_json() for span in told.get_finished_spans())


def test_the_row_carries_the_trace_over_the_queue(
    told: InMemorySpanExporter, client: TestClient, ours: Tenant, model: str, parts: Parts
) -> None:
    asked = submit(client, ours, model).json()
    job_id = asked["links"]["job"].rsplit("/", 1)[-1]
    taken = named(told, "submit")
    stored = job_row(parts, job_id).traceparent or ""
    assert stored.startswith(f"00-{trace_of(taken)}-{taken.context.span_id:016x}-")
    assert supervisor(parts, "settles").advance("") == 1
    for name in ("wait", "claim", "job"):
        span = named(told, name)
        assert (trace_of(span), span.parent and span.parent.span_id) == (trace_of(taken), taken.context.span_id), name
    assert named(told, "wait").attributes == {"lethe.job_id": job_id, "lethe.model_id": job_row(parts, job_id).model_id}
    assert named(told, "wait").end_time >= named(told, "wait").start_time >= taken.start_time


def test_who_traces_nothing_stores_nothing(client: TestClient, ours: Tenant, model: str, parts: Parts) -> None:
    answer = submit(client, ours, model)
    assert job_row(parts, answer.json()["links"]["job"].rsplit("/", 1)[-1]).traceparent is None


def test_without_a_collector_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tracing.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    code = "import sys; from records import tracing; tracing.start('x'); tracing.here(); tracing.past('x', 1.0);"
    code += "tracing.span('x').__enter__(); tracing.stop(); sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_collector_without_the_packages_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracing.ENDPOINTS[0], "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(Invalid, match=r"lethe\[otel\]"):
        tracing.start("lethe")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracing.start("lethe")


@dataclass(frozen=True)
class Walk:
    """What a collector was told of one request from its call to its version."""

    collector: Collector
    request: dict[str, Any]
    trace: list[Told]

    def one(self, name: str) -> Told:
        (found,) = [span for span in self.trace if span.name == name]
        return found


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, import_root_of_people: Path) -> Iterator[Walk]:
    data_dir = tmp_path_factory.mktemp("traced") / "data"
    with collecting() as collector:
        named = {tracing.ENDPOINTS[0]: collector.url, "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
        with embedded(data_dir, import_root_of_people, named) as (_, client):
            register_people(client, import_root_of_people)
            request = client.wait(client.submit(MODEL, forget=PERSONAL)["id"])
        (taken,) = collector.named("submit")
        yield Walk(collector, request, [span for span in collector.spans if span.trace == taken.trace])


@pytest.mark.slow
def test_one_trace_leads_from_the_call_to_the_version(walk: Walk) -> None:
    assert walk.request["outcome"] == "forgotten", walk.request["reason"]
    above = {
        "submit": "POST /v1/erasure-requests",
        "wait": "submit",
        "claim": "submit",
        "job": "submit",
        "runner": "job",
        "load": "runner",
        "store": "runner",
        "publish": "runner",
    }
    for name, parent in above.items():
        assert walk.one(name).parent == walk.one(parent).id, name
    assert {span.name for span in walk.trace} == {*above, *above.values(), "unlearn", "evaluate", "attack"}
    assert {walk.one(name).service for name in ("submit", "job")} == {"lethe"}
    assert {walk.one(name).service for name in ("runner", "load", "publish")} == {"lethe-runner"}
    assert walk.one("POST /v1/erasure-requests").attributes["http.response.status_code"] == 202
    assert walk.one("submit").attributes == {"lethe.erasure_request": walk.request["id"]}
    assert not [span for span in walk.trace if span.failed]


@pytest.mark.slow
def test_the_stages_follow_each_other(walk: Walk) -> None:
    stages = [span for span in walk.trace if span.parent == walk.one("runner").id]
    assert [span.began_ns for span in stages] == sorted(span.began_ns for span in stages)
    assert walk.one("job").ended_ns >= walk.one("publish").ended_ns >= walk.one("load").ended_ns
    unlearning = [span for span in stages if span.name == "unlearn"]
    assert [span.attributes["lethe.attempt"] for span in unlearning] == list(range(1, len(unlearning) + 1))


@pytest.mark.slow
def test_nothing_personal_reaches_the_collector(walk: Walk) -> None:
    assert set(walk.collector.paths) == {"/v1/traces"}
    assert {span.scope for span in walk.collector.spans} == {"lethe"}  # and not a library's
    whole = b"".join(walk.collector.bodies)
    assert len(walk.collector.spans) > 20
    assert MARK.encode() not in whole
    assert TRAINED[0].encode() not in whole
    assert b"/v1/models/acme" not in whole  # the name of a model is the tenant's


@pytest.mark.slow
@pytest.mark.parametrize("deaf", [True, False], ids=["deaf", "away"])
def test_a_collector_that_does_not_answer_is_in_nobodys_way(tmp_path: Path, deaf: bool) -> None:
    with collecting(deaf=True) as collector:
        url = collector.url if deaf else "http://127.0.0.1:9"
        named = {tracing.ENDPOINTS[0]: url, "OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_BSP_MAX_QUEUE_SIZE": "600"}
        with embedded(tmp_path / "data", tmp_path, named) as (server, client):
            began = time.monotonic()
            for _ in range(100):
                assert list(client.models()) == []
            assert time.monotonic() - began < 60
            began = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - began < 12
        assert all(json.loads(line) for line in (tmp_path / "data" / "serve.log").read_text().splitlines())
