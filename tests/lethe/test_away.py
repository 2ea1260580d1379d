"""What is said while Lethe does not answer, and what is not: no password of a URL."""

import json
from functools import partial

import pytest

from lethe.cli import main
from lethe.client import Client, LetheProblem
from tests.lethe.flaky import Reply, flaky

SECRET = "hunter2"
REQUEST = {"object": "erasure_request", "id": "req_1", "state": "queued", "model": "a/b"}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_API_KEY", "lethe_12345678_key")
    monkeypatch.setattr("lethe.commands.options.Client", partial(Client, patience_seconds=0.3))


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_it_says_once_that_it_asks_again(capsys: pytest.CaptureFixture[str]) -> None:
    err = said(capsys, "model", "list", "--url", "http://127.0.0.1:1/prefix")
    assert err.count("Asking again for up to 0 seconds") == 1
    assert err.startswith("No answer from Lethe at http://127.0.0.1:1 (ConnectError). Asking again")
    assert err.count("/prefix") == 0


def test_the_client_itself_tells_only_who_asks() -> None:
    told: list[str] = []
    with (
        flaky(lambda _, n: Reply(503 if n < 2 else 200, b'{"checks": {}}')) as server,
        Client(server.url, patience_seconds=7, on_wait=told.append) as client,
    ):
        assert client.ready() == {"checks": {}}
    assert told == [f"Lethe at {server.url} answered 503. Asking again for up to 7 seconds."]


def test_a_request_whose_service_goes_away_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    submitted = Reply(201, json.dumps(REQUEST).encode())
    with flaky(lambda call, _: submitted if call.method == "POST" else Reply(drops=True)) as server:
        err = said(capsys, "forget", "a/b", "--subject", "s", "--url", server.url)
    assert "No answer from Lethe" in err
    assert "The request goes on without you; look with: lethe status req_1" in err


def test_a_user_in_the_url_is_refused_unsaid() -> None:
    for user in (f"me:{SECRET}", SECRET):
        with pytest.raises(LetheProblem) as refused:
            Client(f"http://{user}@127.0.0.1:1")
        assert "user name or password" in str(refused.value)
        assert SECRET not in repr(refused.value)


def test_of_a_url_only_its_origin_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    err = said(capsys, "model", "list", "--url", f"http://127.0.0.1:1/{SECRET}")
    assert ("http://127.0.0.1:1" in err, SECRET in err) == (True, False)
    monkeypatch.delenv("LETHE_API_KEY")
    err = said(capsys, "model", "list", "--url", f"https://lethe.example/{SECRET}")
    assert ("No API key for https://lethe.example." in err, SECRET in err) == (True, False)
