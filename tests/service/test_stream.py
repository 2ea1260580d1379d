"""Events as a stream, over a real socket: live, resumable, and ending with the request."""

import contextlib
import json
import threading
import time
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from records import api_keys
from records.base import utc_now
from records.settings import OidcSettings
from service.erasure_requests import stream as stream_module
from tests.conftest import make_tenant
from tests.service import worker
from tests.service.conftest import problem, submit
from tests.service.live import serving, wait_for
from tests.service.provider import AUDIENCE, ISSUER, identity_provider

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
    return stream_with(base, tenant.headers, request_id, **headers)


def stream_with(base, shown, request_id, **headers):
    asked = {**shown, "Accept": "text/event-stream", **headers}
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


@pytest.fixture
def looks(monkeypatch):
    """One entry a look of any stream into the database."""
    made, look = [], stream_module._look
    monkeypatch.setattr(stream_module, "_look", lambda *given: (made.append(1), look(*given))[1])
    return made


def test_a_reader_who_leaves_stops_the_polling(client, base, ours, model, looks, monkeypatch):
    monkeypatch.setattr(stream_module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(stream_module, "QUIET_POLL_SECONDS", 0.02)
    request_id = submit(client, ours, model).json()["id"]
    with open_stream(base, ours, request_id) as stream:
        lines = stream.iter_lines()  # kept: a dropped iterator closes the stream
        next(lines)
        wait_for(lambda: len(looks) > 3)
    wait_for(lambda: _still(looks))


def test_a_quiet_request_is_looked_at_less_often(client, base, ours, model, looks, monkeypatch):
    monkeypatch.setattr(stream_module, "POLL_SECONDS", 0.01)
    request_id = submit(client, ours, model).json()["id"]
    with open_stream(base, ours, request_id) as stream:
        lines = stream.iter_lines()  # kept: a dropped iterator closes the stream
        next(lines)
        time.sleep(1.5)
    assert 1 < len(looks) <= 9


def test_looks_of_many_streams_take_few_threads(client, base, ours, model, monkeypatch):
    """A burst of streams over a slow database leaves the threads of the other calls alone."""
    at_once, most = [], []
    look = stream_module._look

    def slow_look(*given):
        at_once.append(1)
        most.append(len(at_once))
        time.sleep(0.2)
        at_once.pop()
        return look(*given)

    monkeypatch.setattr(stream_module, "_look", slow_look)
    request_id = submit(client, ours, model).json()["id"]
    with contextlib.ExitStack() as streams:
        for _ in range(12):
            streams.enter_context(open_stream(base, ours, request_id))
        wait_for(lambda: len(most) > 12)
    assert max(most) <= 4


def test_a_tenant_has_so_many_streams_at_once(client, ours, theirs, model, parts):
    limits = parts.settings.limits.model_copy(update={"tenant_streams": 2})
    request_id = submit(client, ours, model).json()["id"]
    other_key = make_tenant(parts, "ours")
    with (
        serving(replace(parts, settings=replace(parts.settings, limits=limits))) as base,
        open_stream(base, ours, request_id) as first,
    ):
        assert first.status_code == 200
        with open_stream(base, other_key, request_id) as second:
            assert second.status_code == 200
            with open_stream(base, ours, request_id) as third:
                assert third.status_code == 429
                third.read()
                assert "2 event streams" in problem(third, 429, code="too_many_streams")["detail"]
                assert third.headers["retry-after"] == "5"
            listed = httpx.get(f"{base}/v1/erasure-requests/{request_id}/events", headers=ours.headers)
            assert listed.status_code == 200, "a list is no stream"
            with open_stream(base, theirs, request_id) as foreign:
                assert foreign.status_code == 404, "another tenant has its own"
        wait_for(lambda: _is_let_in(base, ours, request_id))


def _is_let_in(base, tenant, request_id):
    with open_stream(base, tenant, request_id) as stream:
        return stream.status_code == 200


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


def assert_it_ends_by_itself(base, shown, request_id, meanwhile=lambda: None):
    """The stream of a request that waits ends, whole and without `done`, and who resumes it is refused."""
    with stream_with(base, shown, request_id) as stream:
        found = frames(stream.iter_lines())
        seen = [next(found) for _ in range(4)]
        meanwhile()
        assert list(found) == []
    assert [kind for kind, _, _ in seen] == ["entry", "entry", "entry", "progress"]
    with stream_with(base, shown, request_id, **{"Last-Event-ID": str(seen[2][1])}) as stream:
        stream.read()
        problem(stream, 401)


@pytest.mark.parametrize("change", [{"revoked_at": timedelta()}, {"expires_at": timedelta(seconds=-1)}])
def test_a_key_that_is_shut_meanwhile_ends_its_stream_and_no_other(change, client, base, ours, model, parts):
    request_id = submit(client, ours, model).json()["id"]
    leaked = make_tenant(parts, "ours")

    def shut():
        with parts.database.transaction() as session:
            key = api_keys.find(session, leaked.id, leaked.key_id)
            for name, later in change.items():
                setattr(key, name, utc_now() + later)

    with open_stream(base, ours, request_id) as other:
        found = frames(other.iter_lines())
        next(found)
        assert_it_ends_by_itself(base, leaked.headers, request_id, shut)
        worker.publish(parts, request_id)
        assert list(found)[-1][0] == "done"


def test_a_token_that_expires_meanwhile_ends_its_stream(client, ours, model, parts):
    request_id = submit(client, ours, model).json()["id"]
    with identity_provider() as provider:
        named = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks_url": provider.url}
        oidc = OidcSettings(**named, oidc_leeway_seconds=1)
        with serving(replace(parts, settings=replace(parts.settings, oidc=oidc))) as base:
            token = provider.token(exp=int(time.time()) + 3)
            assert_it_ends_by_itself(base, {"Authorization": f"Bearer {token}"}, request_id)
