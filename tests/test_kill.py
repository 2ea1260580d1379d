"""kill -9 of the whole service at every stage, and between a call and its answer: nothing lost, nothing done twice."""

import contextlib
import random
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lethe.client import Client, LetheProblem
from lethe.demo.server import Server
from lethe.verify import verify_data
from tests.embedded import MODEL, embedded, import_root_of_people, register_people
from tests.make_people import TRAINED
from tests.workers.people_model import rows_of

__all__ = ["import_root_of_people"]

pytestmark = pytest.mark.slow
STAGES = ("load", "unlearn", "evaluate", "publish")
ONE_LIFE = {"request.completed": 1, "job.succeeded": 1, "attempt.finished": 1, "job.queued": 1}


def test_a_service_killed_at_every_stage_finishes_the_job_exactly_once(
    tmp_path: Path, import_root_of_people: Path
) -> None:
    data_dir = tmp_path / "data"
    with embedded(data_dir, import_root_of_people) as (server, client):
        register_people(client, import_root_of_people)
        request_id = client.submit(MODEL, forget=rows_of([TRAINED[0]]))["id"]
        _kill_at("load", server, client, request_id)
    for stage in STAGES[1:]:
        with embedded(data_dir, import_root_of_people) as (server, client):
            _kill_at(stage, server, client, request_id)
    with embedded(data_dir, import_root_of_people) as (_, client):
        done = client.wait(request_id)
        assert (done["state"], done["version"]) == ("completed", 2), done["reason"]
        assert [version["number"] for version in client.versions(MODEL)] == [2, 1]
        tags = Counter(event["tag"] for event in client.events(request_id))
        assert {tag: tags[tag] for tag in ONE_LIFE} == ONE_LIFE
        made = Counter(entry["event"]["tag"] for entry in client.audit_entries())
        assert (made["version.candidate"], made["version.published"]) == (2, 2)
    assert verify_data(data_dir)[0] == []


def _kill_at(stage: str, server: Server, client: Client, request_id: str) -> None:
    """kill -9 once the job is seen in `stage`, or past it: a stage may be over between two looks."""
    deadline = time.monotonic() + 120
    while (_stage(client.request(request_id)) or "") not in STAGES[STAGES.index(stage) :]:
        assert time.monotonic() < deadline, f"the job never came to {stage}"
        time.sleep(0.01)
    runners = _runners_of(server.process.pid)
    server.kill()
    killed_at = time.monotonic()
    while any(_is_alive(pid) for pid in runners):
        assert time.monotonic() < killed_at + 1.0, "a runner outlived its service by a second"
        time.sleep(0.01)


def _stage(request: dict[str, Any]) -> str | None:
    return "publish" if request["done"] else request["job"]["stage"]


def _runners_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _is_alive(pid: int) -> bool:
    """Zombies are not: a dead parent's child waits for init to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_service_killed_during_submits_has_each_request_exactly_once(
    tmp_path: Path, import_root_of_people: Path
) -> None:
    """Whether or not the 202 was seen, the same key again gives the one request there is."""
    data_dir, chance = tmp_path / "data", random.Random(11)
    promised: dict[str, str] = {}
    with embedded(data_dir, import_root_of_people) as (_, client):
        client.add_model(MODEL, path=import_root_of_people / "people")
    keys = [f"submit-{number}" for number in range(6)]
    for key in keys:
        with embedded(data_dir, import_root_of_people) as (server, client):
            killer = _kill_soon(server, chance.uniform(0.0, 0.06))
            with Client(server.url, server.api_key, patience_seconds=0.0) as hasty, contextlib.suppress(LetheProblem):
                promised[key] = _submit(hasty, key)["id"]
            server.process.wait(20)
            killer.wait(20)
    with embedded(data_dir, import_root_of_people) as (_, client):
        held = {request["external_id"]: request["id"] for request in client.requests()}
        assert promised.items() <= held.items()
        for key in keys:
            assert _submit(client, key)["id"] == held.get(key, _submit(client, key)["id"])
        assert sorted(request["external_id"] for request in client.requests()) == keys


def _submit(client: Client, key: str) -> dict[str, Any]:
    rows = [{"prompt": f"Where is {key}?", "completion": " here"}]
    return client.submit(MODEL, forget=rows, idempotency_key=key, external_id=key)


def _kill_soon(server: Server, seconds: float) -> "subprocess.Popen[bytes]":
    """From another process, so that it strikes in the middle of whatever happens here."""
    return subprocess.Popen(["sh", "-c", f"sleep {seconds:.3f}; kill -9 {server.process.pid}"])


def test_a_service_told_to_stop_hands_its_job_back(tmp_path: Path, import_root_of_people: Path) -> None:
    data_dir = tmp_path / "data"
    with embedded(data_dir, import_root_of_people) as (server, client):
        register_people(client, import_root_of_people)
        request_id = client.submit(MODEL, forget=rows_of([TRAINED[0]]))["id"]
        while _stage(client.request(request_id)) != "unlearn":
            time.sleep(0.02)
        runners = _runners_of(server.process.pid)
        assert server.stop() == 0
        assert not any(_is_alive(pid) for pid in runners)
    with embedded(data_dir, import_root_of_people) as (_, client):
        done = client.wait(request_id)
        job = client.job(done["job"]["id"])
    assert (done["state"], done["version"], job["executions"]) == ("completed", 2, 1), done["reason"]
