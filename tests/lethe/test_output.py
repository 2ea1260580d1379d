"""What a terminal that lacks letters gets, and how a state is said."""

import io
import json

import pytest

from lethe import output
from lethe.cli import main
from tests.lethe.flaky import Reply, flaky

EXACT = {"before": {"value": 1.0}, "after": {"value": 0.0}}
REPORT = {
    "object": "report",
    "attempt": 1,
    "verdict": "accepted",
    "reason": "Zoë",
    "report": {"method": "undial", "groups": {"forget": {"n_items": 4, "metrics": {"exact": EXACT}}}},
}


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *arguments: str) -> str:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    monkeypatch.setattr("sys.stdout", stdout)
    with flaky(lambda *_: Reply(body=json.dumps(REPORT).encode())) as server, pytest.raises(SystemExit) as ended:
        main([*arguments, "--url", server.url, "--api-key", "key"])
    assert not ended.value.code
    return stdout.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def test_letters_that_the_terminal_lacks_are_written_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "100 % → 0 %" in printed(monkeypatch, "utf-8", "report", "req_1")
    for encoding, name in (("ascii", "Zo\\xeb"), ("latin-1", "Zoë")):
        out = printed(monkeypatch, encoding, "report", "req_1")
        assert "100 % \\u2192 0 %" in out
        assert name in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_stays_json_in_any_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    assert json.loads(printed(monkeypatch, encoding, "report", "req_1", "--json"))["reason"] == "Zoë"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"state": "needs_review"}, "needs review"),
        ({"state": "running", "job": {"cancel_requested_at": None}}, "running"),
        ({"state": "running", "job": {"cancel_requested_at": "2026-01-01"}}, "cancelling"),
        ({"state": "cancelled", "job": {"cancel_requested_at": "2026-01-01"}}, "cancelled"),
    ],
)
def test_a_state_in_words(request_: dict[str, object], said: str) -> None:
    assert output.state_of(request_) == said
