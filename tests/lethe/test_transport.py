"""What is repeated, what is not, and what a refusal looks like."""

import json
import socket

import pytest

from lethe.client import Client
from lethe.transport import LetheProblem, Transport, is_loopback, open_http
from tests.lethe.flaky import Call, Reply, flaky

PROBLEM = {
    "type": "urn:lethe:problem:invalid",
    "title": "Unprocessable Content",
    "status": 422,
    "detail": "A value cannot be used.",
    "code": "invalid",
    "errors": [{"pointer": "/parameters/epochs", "detail": "Too many."}, {"parameter": "limit", "detail": "Too few."}],
    "request_id": "abc",
}


def transport(url: str, patience_seconds: float = 10.0) -> tuple[Transport, list[float]]:
    pauses: list[float] = []
    return Transport(open_http(url, None), patience_seconds, pauses.append), pauses


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_passing_refusal_is_waited_out(status: int) -> None:
    with flaky(lambda _, n: Reply(status, headers={"Retry-After": "7"}) if n < 2 else Reply(body=b'{"a":1}')) as server:
        tried, pauses = transport(server.url)
        with tried.http:
            assert tried.call("GET", "/x", repeatable=True).json() == {"a": 1}
    assert len(server.calls) == 3
    assert pauses == [7.0, 7.0]


def test_a_dropped_connection_is_tried_again_only_where_that_is_safe() -> None:
    with flaky(lambda _, n: Reply(drops=n == 0)) as server:
        tried, _ = transport(server.url)
        with tried.http:
            tried.call("PUT", "/x", repeatable=True)
            assert len(server.calls) == 2
    with flaky(lambda _, __: Reply(drops=True)) as server:
        tried, _ = transport(server.url)
        with tried.http, pytest.raises(LetheProblem) as refused:
            tried.call("POST", "/x", repeatable=False)
    assert len(server.calls) == 1  # it may have been done: nobody knows
    assert (refused.value.status, refused.value.code) == (0, "unreachable")


def test_patience_ends() -> None:
    with flaky(lambda _, __: Reply(503, b"busy", {"Retry-After": "20"})) as server:
        tried, pauses = transport(server.url, patience_seconds=10.0)
        with tried.http, pytest.raises(LetheProblem) as refused:
            tried.call("GET", "/x", repeatable=True)
    assert (refused.value.status, pauses, len(server.calls)) == (503, [], 1)


def test_nobody_there_is_one_sentence_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    tried, _ = transport(f"http://127.0.0.1:{port}", patience_seconds=0.0)
    with tried.http, pytest.raises(LetheProblem, match="lethe serve"):
        tried.call("GET", "/x", repeatable=True)


def test_problem_details_become_one_exception() -> None:
    body = json.dumps(PROBLEM).encode()
    with flaky(lambda _, __: Reply(422, body, {"Content-Type": "application/problem+json"})) as server:
        tried, _ = transport(server.url)
        with tried.http, pytest.raises(LetheProblem) as refused:
            tried.call("GET", "/x", repeatable=True)
    problem = refused.value
    assert (problem.status, problem.code, str(problem)) == (422, "invalid", "A value cannot be used.")
    assert (problem.title, problem.request_id) == ("Unprocessable Content", "abc")
    assert [(one.pointer, one.detail) for one in problem.errors] == [
        ("/parameters/epochs", "Too many."),
        ("limit", "Too few."),
    ]


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"detail": 1', b'{"no": "detail"}', b'{"detail":"a","errors":[1]}']
)
def test_what_is_no_lethe_says_so(body: bytes) -> None:
    with flaky(lambda _, __: Reply(500, body)) as server:
        tried, _ = transport(server.url)
        with tried.http, pytest.raises(LetheProblem, match="perhaps no Lethe"):
            tried.call("GET", "/x", repeatable=True)


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"", b"[]", b'{"ok": true}', b'{"data": 1}', b'{"data": [{"id": "gpt2"}]}', b'{"detail": "a"}'],
)
def test_a_friendly_answer_of_what_is_no_lethe_is_no_answer(body: bytes) -> None:
    with flaky(lambda _, __: Reply(200, body)) as server, Client(server.url) as client:
        with pytest.raises(LetheProblem, match="answered 200 OK and is perhaps no Lethe"):
            list(client.models())
        for call in (lambda: client.submit("a/b", subject="someone"), lambda: client.wait("req_1"), client.ready):
            with pytest.raises(LetheProblem, match="perhaps no Lethe"):
                call()


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("https://lethe.example/v1/models?key=secret", "sends its callers to https://lethe.example. If"),
        ("/login", "answered 308 Permanent Redirect and is perhaps no Lethe"),
    ],
)
def test_a_redirect_is_told_and_not_followed(place: str, told: str) -> None:
    with flaky(lambda _, __: Reply(308, b"", {"Location": place})) as server, Client(server.url, "key") as client:
        with pytest.raises(LetheProblem) as refused:
            list(client.models())
        assert len(server.calls) == 1
    assert told in refused.value.detail


def test_the_same_idempotency_key_goes_with_every_try_and_a_new_one_with_every_call() -> None:
    with flaky(lambda _, n: Reply(drops=n in (0, 1))) as server, Client(server.url) as client:
        client.submit("a/b", subject="someone")
        client.submit("a/b", subject="someone")
    keys = [call.headers["Idempotency-Key"] for call in server.calls]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert len({call.body for call in server.calls}) == 1


def test_a_dataset_is_sent_anew_from_its_beginning() -> None:
    rows = [{"text": "one"}, {"text": "two"}]
    with flaky(lambda _, n: Reply(502 if n == 0 else 200)) as server, Client(server.url) as client:
        client.put_dataset("a/b", "retain", rows)
    assert [call.body for call in server.calls] == [b'{"text": "one"}\n{"text": "two"}\n'] * 2


def test_rows_that_come_once_are_sent_once() -> None:
    with flaky(lambda _, __: Reply(502)) as server, Client(server.url) as client, pytest.raises(LetheProblem):
        client.put_dataset("a/b", "retain", iter([{"text": "one"}]))
    assert len(server.calls) == 1


def test_lists_are_followed_to_their_end() -> None:
    def page(call: Call, _: int) -> Reply:
        last = "after=c1" in call.path
        body = {"data": [{"n": 2}] if last else [{"n": 1}], "has_more": not last, "next_cursor": None if last else "c1"}
        return Reply(body=json.dumps(body).encode())

    with flaky(page) as server, Client(server.url) as client:
        assert [one["n"] for one in client.models()] == [1, 2]


def request_in(state: str) -> Reply:
    return Reply(body=json.dumps({"object": "erasure_request", "state": state}).encode())


def test_without_an_event_stream_the_request_is_asked_for_again() -> None:
    def answer(call: Call, _: int) -> Reply:
        if call.path.endswith("/events"):
            return Reply(404, b"no")
        asked.append(call.path)
        return request_in("completed" if len(asked) > 2 else "running")

    asked: list[str] = []
    told: list[str] = []
    with flaky(answer) as server, Client(server.url, "key") as client:
        done = client.wait("req_1", lambda request: told.append(request["state"]))
    assert done["state"] == "completed"
    assert told == ["running", "running", "completed"]


def test_an_event_stream_is_resumed_behind_the_last_event() -> None:
    def answer(call: Call, _: int) -> Reply:
        if call.path.endswith("/events"):
            streams.append(call.headers.get("Last-Event-Id") or call.headers.get("Last-Event-ID"))
            return Reply(body=b"id: 5\nevent: entry\ndata: {}\n\n", cut_at=None if len(streams) > 1 else 31)
        return request_in("completed" if len(streams) > 1 else "running")

    streams: list[str | None] = []
    with flaky(answer) as server, Client(server.url) as client:
        assert client.wait("req_1")["state"] == "completed"
    assert streams == [None, "5"]


@pytest.mark.parametrize(
    ("url", "local"),
    [("http://localhost:1", True), ("http://127.8.0.1", True), ("http://[::1]:2", True), ("http://10.0.0.1", False)],
)
def test_loopback(url: str, local: bool) -> None:
    assert is_loopback(url) is local
