"""Everything that an embedded Lethe writes about marked personal data, on every way that a request can go: nothing of
it is in a line, a row, a file's name, an address or a message, and each line says whose it is.
"""

import http.client
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.testclient import TestClient

from records.outbox import HINT
from records.parts import Parts
from records.queue import send_hint
from tests.conftest import Tenant
from tests.embedded import MODEL, embedded, import_root_of_people, register_people
from tests.make_people import TRAINED
from tests.service.conftest import client, model, submit
from tests.workers.people_model import rows_of

__all__ = ["client", "import_root_of_people", "model"]

FORGOTTEN, OTHER = TRAINED[0], TRAINED[1]
MARK = "Zqx"
PERSONAL = [
    {**row, "subject": f"{MARK}subject", "id": f"{MARK}id", "paraphrases": [], "wrong": [f" {MARK}wrong"]}
    for row in rows_of([FORGOTTEN])
]
UNKNOWN = [{"prompt": f"Who is {MARK}name?", "completion": f" {MARK}answer", "subject": f"{MARK}subject"}]
OF_THE_PROCESS = {("lethe.ready", None), ("sweep.failed", None), ("library", "uvicorn.error")}


@dataclass(frozen=True)
class Walk:
    """What was left behind by the walk: the lines, the folder, the addresses, ids of calls and of requests."""

    log: str
    folder: Path
    addresses: list[str]
    broken_call: str
    requests: dict[str, dict[str, Any]]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines()]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, import_root_of_people: Path) -> Walk:
    data_dir, root = tmp_path_factory.mktemp("logged") / "data", import_root_of_people
    addresses: list[str] = []
    with embedded(data_dir, root) as (server, client):
        register_people(client, root)
        asked = {
            "published": client.submit(MODEL, forget=PERSONAL)["id"],
            "unknown": client.submit(MODEL, forget=UNKNOWN)["id"],
            "cancelled": client.submit(MODEL, forget=UNKNOWN)["id"],
        }
        client.cancel(asked["cancelled"], "no longer wished for")
        for one in asked.values():
            client.wait(one)
        addresses += refused(server.url, server.api_key)
        addresses += [json.dumps(client.request(one)["links"]) for one in asked.values()]
        broken_call = break_the_database(data_dir, server.url, server.api_key)
    with embedded(data_dir, root, {"LETHE_DEVICE": "cuda:77"}) as (server, client):
        asked["failed"] = client.submit(MODEL, forget=UNKNOWN)["id"]
        client.wait(asked["failed"])
        requests = {way: client.request(one) for way, one in asked.items()}
    return Walk((data_dir / "serve.log").read_text(), data_dir, addresses, broken_call, requests)


def refused(url: str, key: str) -> Iterator[str]:
    """Calls that cannot be answered, with marks wherever a caller can put them; yields what came back."""
    post = f"{url}/v1/erasure-requests"
    marked = {"User-Agent": MARK, "Referer": f"http://{MARK}/", "X-Request-Id": f"{MARK}@mark.org", "traceparent": MARK}
    headers = {"Authorization": f"Bearer {key}", **marked}
    calls: list[tuple[str, str, Any]] = [
        ("POST", post, f'{{"model": "{MARK}'),
        ("POST", post, json.dumps({"model": MODEL, "forget": [{"prompt": MARK, MARK: MARK}]})),
        ("POST", post, json.dumps({"model": MODEL, "forget": f"{MARK}text", "method": MARK})),
        ("POST", post, json.dumps({"model": f"{MARK}/{MARK}", "subject": MARK})),
        ("PUT", f"{url}/v1/models/{MODEL}/datasets/utility", f'{{"text": "{MARK}"}}\n{{"text": {MARK}}}\n'),
        ("GET", f"{post}?state={MARK}&{MARK}={MARK}", None),
        ("GET", f"{post}/{MARK}", None),
        ("GET", f"{url}/v1/jobs/{MARK}?model={MARK}", None),
        ("GET", f"{url}/{MARK}", None),
    ]
    for method, address, body in calls:
        answer = httpx.request(method, address, content=body, headers={**headers, "Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500, answer.text
        yield str(answer.headers)
    assert httpx.get(post, headers={**marked, "Authorization": f"Bearer {MARK}"}).status_code == 401
    with_other_method(url)


def with_other_method(url: str) -> None:
    """A method of the caller's own making, which most clients do not send."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    connection.request(MARK.upper(), "/healthz")
    connection.getresponse().read()
    connection.close()


def break_the_database(data_dir: Path, url: str, key: str) -> str:
    """Let a statement fail that has personal parameters; the id of that call."""
    renamed(data_dir / "lethe.db", "idempotency_keys", "elsewhere")
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"{MARK}-key"}
    body = {"model": MODEL, "forget": UNKNOWN}
    answer = httpx.post(f"{url}/v1/erasure-requests", json=body, headers=headers)
    renamed(data_dir / "lethe.db", "elsewhere", "idempotency_keys")
    assert answer.status_code == 500
    return str(answer.headers["x-request-id"])


def renamed(database: Path, table: str, name: str) -> None:
    """SQLite's `with` ends a transaction, not the connection; one left open takes its -shm along at any later time."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO {name}")


@pytest.mark.slow
def test_the_walk_went_every_way(walk: Walk) -> None:
    states = {way: (one["state"], one["outcome"]) for way, one in walk.requests.items()}
    assert states.pop("unknown")[0] in {"completed", "needs_review", "failed"}
    assert states == {
        "published": ("completed", "forgotten"),
        "cancelled": ("cancelled", None),
        "failed": ("failed", None),
    }


@pytest.mark.slow
def test_no_line_holds_a_mark(walk: Walk) -> None:
    assert [line for line in walk.log.splitlines() if MARK.lower() in line.lower()] == []
    names = re.compile("|".join(rf"\b{name}\b" for name in (FORGOTTEN, OTHER)))
    assert [line for line in walk.log.splitlines() if names.search(line)] == []


@pytest.mark.slow
def test_no_file_holds_a_mark_nor_is_named_by_one(walk: Walk) -> None:
    files = [path for path in walk.folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if MARK.lower() in str(path.relative_to(walk.folder)).lower()] == []
    holding = [path for path in files if MARK.encode() in path.read_bytes() and path.name != "serve.log"]
    assert holding == []


@pytest.mark.slow
def test_no_address_and_no_answer_repeats_a_mark(walk: Walk) -> None:
    assert [address for address in walk.addresses if MARK.lower() in address.lower()] == []
    assert MARK not in json.dumps(walk.requests)


@pytest.mark.slow
def test_each_line_says_whose_it_is(walk: Walk) -> None:
    nobodys = [line for line in walk.lines if not {"request_id", "job_id"} & line.keys()]
    assert [line for line in nobodys if (line["event"], line.get("logger")) not in OF_THE_PROCESS] == []
    of_jobs = [line for line in walk.lines if "job_id" in line and "request_id" not in line]
    assert {"job.started", "stage.ended", "runner.error", "job.ended"} <= {line["event"] for line in of_jobs}
    assert all(line["erasure_requests"] for line in of_jobs)


@pytest.mark.slow
def test_a_request_can_be_followed_from_its_call_to_its_job(walk: Walk) -> None:
    request_id = walk.requests["published"]["id"]
    (taken,) = [line for line in walk.lines if line["event"] == "submitted" and line["erasure_request"] == request_id]
    (call,) = [line for line in walk.lines if line["event"] == "call" and line["request_id"] == taken["request_id"]]
    assert (call["method"], call["route"], call["status"]) == ("POST", "/v1/erasure-requests", 202)
    told = [line["event"] for line in walk.lines if request_id in line.get("erasure_requests", ())]
    assert (told[0], told[-1]) == ("job.started", "job.ended")
    assert "stage.ended" in told
    looked = [line for line in walk.lines if line["event"] == "call" and line.get("erasure_request") == request_id]
    assert looked


@pytest.mark.slow
def test_a_failing_statement_is_a_class_and_places_under_its_call(walk: Walk) -> None:
    of_it = [line for line in walk.lines if line.get("request_id") == walk.broken_call]
    assert [line["event"] for line in of_it] == ["unexpected", "call"]
    assert of_it[0]["error"] == "OperationalError"
    assert any("idempotency" in place for place in of_it[0]["places"])


SPEAKS = """
import logging, sys, threading, warnings
import sqlalchemy as sa
from records import logs
from records.database import make_engine
secret = "Zqxsecret"
logs.to_stderr()
logger = logging.getLogger("some.library")
logger.warning("user %s failed", secret)
logger.warning(f"user {secret} failed")
logger.warning("%d", secret)
try:
    with make_engine("sqlite://").connect() as connection:
        connection.execute(sa.text("SELECT :name FROM nowhere"), {"name": secret})
except sa.exc.SQLAlchemyError as error:
    assert secret not in str(error)
try:
    raise KeyError(secret)
except KeyError:
    logger.exception("broken")
warnings.warn(secret)
thread = threading.Thread(target=lambda: {}[secret])
thread.start(); thread.join()
raise ValueError(secret)
"""


def test_what_libraries_say_and_what_nobody_catches_loses_its_values() -> None:
    done = subprocess.run([sys.executable, "-c", SPEAKS], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, done.stdout) == (1, "")
    assert "Zqx" not in done.stderr
    said = [line["event"] for line in lines]
    assert said == ["library"] * 4 + ["python.warning", "uncaught", "uncaught"]
    assert [line.get("template") for line in lines[:3]] == ["user %s failed", None, "%d"]
    assert [line.get("error") for line in lines[3:]] == ["KeyError", None, "KeyError", "ValueError"]
    assert lines[1]["place"].startswith("<string>:")


def test_a_message_holds_ids_only(client: TestClient, ours: Tenant, model: str, parts: Parts) -> None:
    submit(client, ours, model, forget=UNKNOWN, external_id=f"{MARK}ticket")
    send_hint(parts.queue, HINT, {"model_id": "mod_1", "needs": "cpu"})
    taken = []
    with parts.queue.connection_for_read() as connection, connection.SimpleQueue("lethe.unlearn.cpu") as waiting:
        while waiting.qsize():
            message = waiting.get(block=False)
            taken.append(json.dumps([message.payload, message.headers, message.properties], default=str))
    assert len(taken) >= 2
    assert MARK not in "".join(taken)
