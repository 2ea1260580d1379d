"""Events as a stream, over a real socket: live, resumable, and ending with the request."""

import json
import threading
import time

import httpx
import pytest

from service.erasure_requests import stream as stream_module
from tests.service import worker
from tests.service.conftest import problem, submit
from tests.service.live import serving, wait_for

pytestmark = pytest.mark.slow


def frames(lines):
    """Parsed frames of a stream: (event, id, data)."""
    kind, number, data = None, None, None
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "id":
            number = int(value)
        elif name == "data":
            data = json.loads(value)
        elif line == "" and kind:
            yield kind, number, data
            kind, number, data = None, None, None


@pytest.fixture
def base(parts):
    with serving(parts) as url:
        yield url


def open_stream(base, tenant, request_id, **headers):
    asked = {**tenant.headers, "Accept": "text/event-stream", **headers}
    return httpx.stream("GET", f"{base}/v1/erasure-requests/{request_id}/events", headers=asked, timeout=20)


def test_a_stream_tells_what_happens_while_it_is_open_and_ends_with_the_request(client, base, ours, model, parts):
    request_id = submit(client, ours, model).json()["id"]
    with open_stream(base, ours, request_id) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        found = frames(stream.iter_lines())
        seen = [next(found) for _ in range(4)]
        assert [kind for kind, _, _ in seen] == ["entry", "entry", "entry", "progress"]
        thread = threading.Thread(target=worker.publish, args=(parts, request_id))
        thread.start()
        rest = list(found)
        thread.join()
    assert [data["tag"] for kind, _, data in rest if kind == "entry"][-1] == "request.completed"
    assert rest[-1] == ("done", None, {"state": "completed", "outcome": "forgotten"})
    assert all((number is not None) == (kind == "entry") for kind, number, _ in seen + rest)


def test_a_stream_resumes_behind_the_last_event_id(client, base, ours, model, parts):
    request_id = submit(client, ours, model).json()["id"]
    worker.publish(parts, request_id)
    with open_stream(base, ours, request_id) as stream:
        whole = [frame for frame in frames(stream.iter_lines()) if frame[0] == "entry"]
    listed = client.get(f"/v1/erasure-requests/{request_id}/events", headers=ours.headers).json()["data"]
    assert [data for _, _, data in whole] == listed
    with open_stream(base, ours, request_id, **{"Last-Event-ID": str(whole[4][1])}) as stream:
        assert [frame for frame in frames(stream.iter_lines()) if frame[0] == "entry"] == whole[5:]


def test_a_stream_of_a_foreign_request_is_404(client, base, ours, theirs, model):
    request_id = submit(client, ours, model).json()["id"]
    with open_stream(base, theirs, request_id) as stream:
        stream.read()
        problem(stream, 404)


def test_a_bad_last_event_id_is_422(client, base, ours, model):
    request_id = submit(client, ours, model).json()["id"]
    with open_stream(base, ours, request_id, **{"Last-Event-ID": "yesterday"}) as stream:
        stream.read()
        problem(stream, 422)


def test_a_reader_who_leaves_stops_the_polling(client, base, ours, model, monkeypatch):
    looks = []
    look = stream_module._look
    monkeypatch.setattr(stream_module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(stream_module, "_look", lambda *given: (looks.append(1), look(*given))[1])
    request_id = submit(client, ours, model).json()["id"]
    with open_stream(base, ours, request_id) as stream:
        lines = stream.iter_lines()  # kept: a dropped iterator closes the stream
        next(lines)
        wait_for(lambda: len(looks) > 3)
    wait_for(lambda: _still(looks))


def _still(looks):
    before = len(looks)
    time.sleep(0.3)
    return len(looks) == before


def test_a_quiet_stream_is_kept_alive(client, base, ours, model, monkeypatch):
    monkeypatch.setattr(stream_module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(stream_module, "KEEP_ALIVE_SECONDS", 0.1)
    request_id = submit(client, ours, model).json()["id"]
    with open_stream(base, ours, request_id) as stream:
        assert any(line.startswith(":") for line in stream.iter_lines())
