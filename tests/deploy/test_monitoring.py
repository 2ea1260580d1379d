"""The dashboard and the alert rules ask for what /metrics serves: names, labels, states; and nothing is unwatched."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from records import jobs
from records.counters import Event
from records.parts import Parts
from records.rows import StageRow
from records.states import JobState, RequestState, VersionState
from tests.conftest import Tenant
from tests.service import worker
from tests.service.conftest import client, model, submit

__all__ = ["client", "model"]

DEPLOY = Path(__file__).parents[2] / "deploy"
STATES = {*map(str, JobState), *map(str, RequestState), *map(str, VersionState)}
Served = dict[str, set[str]]


@pytest.fixture
def served(client: TestClient, ours: Tenant, model: str, parts: Parts) -> Served:
    """Name of each sample -> its labels, of a Lethe in which a version was published and a job waits."""
    request_id = submit(client, ours, model).json()["id"]
    worker.publish(parts, request_id)
    with parts.database.transaction() as session:
        job = jobs.job_of(session, request_id)
        session.add(StageRow(job_id=job.id, fence=1, attempt=1, stage="unlearn", seconds=9.0, gpu_peak_bytes=2**30))
    submit(client, ours, model)
    found: Served = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def rules() -> list[Mapping[str, object]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[Mapping[str, object]]:
    return json.loads((DEPLOY / "grafana" / "lethe.json").read_text(encoding="utf-8"))["panels"]


def expressions() -> list[str]:
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in rules())]


def wrong(expression: str, served: Served) -> Iterator[str]:
    """What of a PromQL expression is not served."""
    names = set(re.findall(r"\blethe_\w+", expression))
    yield from names - served.keys()
    labels = set().union(*(served.get(name, set()) for name in names))
    for listed in re.findall(r"\bby \(([^)]*)\)", expression):
        yield from {one.strip() for one in listed.split(",")} - labels
    for name, selector in re.findall(r"(\w+)\{([^}]*)\}", expression):
        for label, value in re.findall(r"(\w+)\s*=~?\s*\"([^\"]*)\"", selector):
            known = {"state": STATES, "event": set(Event)}.get(label)
            unknown = known is not None and not set(value.split("|")) <= known
            if label not in served.get(name, set()) or unknown:
                yield f"{name}{{{label}={value}}}"


def test_what_is_asked_for_is_served(served: Served) -> None:
    assert {expression: found for expression in expressions() if (found := list(wrong(expression, served)))} == {}


def test_the_check_finds_what_is_not_served() -> None:
    served = {"lethe_jobs": {"state"}, "lethe_events_total": {"event"}}
    for expression in (
        "max(lethe_job)",
        "max by (model) (lethe_jobs)",
        'lethe_jobs{state="lost"}',
        'lethe_jobs{a="b"}',
        'lethe_events_total{event=~"lease_lost|stale"}',
    ):
        assert list(wrong(expression, served)), expression
    assert list(wrong('max by (state) (lethe_jobs{state="failed"})', served)) == []


def test_every_metric_of_the_rows_is_on_the_dashboard(served: Served) -> None:
    shown = set(re.findall(r"\blethe_\w+", " ".join(expressions())))
    kinds = {re.sub(r"_(bucket|count|sum|created|total)$", "", name) for name in served if name.startswith("lethe_")}
    assert {one for one in kinds if not any(name.startswith(one) for name in shown)} == set()


def test_labels_are_few_and_name_nobody(served: Served) -> None:
    allowed = {"state", "needs", "method", "verdict", "stage", "event", "route", "status", "le"}
    assert set().union(*served.values()) == allowed


def test_each_alert_says_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "remedy"}
        assert rule["labels"]["severity"] in {"page", "warn"}


def test_panels_do_not_overlap() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()}
    assert len(places) == len(panels())
    for panel in panels():
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in target["expr"], panel["title"]
