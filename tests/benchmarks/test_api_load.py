"""The load benchmark in small: every kind of call is answered, and what the processes hold is told."""

import json
from pathlib import Path

import pytest

from benchmarks.api_load import Calls, figures, main


def test_figures_are_of_all_calls() -> None:
    calls = Calls("status", lasted=4.0)
    for milliseconds in range(1, 101):
        calls.add(200 if milliseconds <= 98 else 503, milliseconds / 1000)
    found = figures(calls, clients=10)
    assert (found.calls, found.per_second) == (100, 25.0)
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == (51.0, 96.0, 100.0)
    assert found.refused == {503: 2}


@pytest.mark.slow
@pytest.mark.postgres
def test_every_call_is_answered_and_nothing_is_left_open(tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    sizes = ["--apis", "1", "--clients", "2", "--seconds", "1", "--minutes", "0.03", "--mixed-clients", "2"]
    assert main([*sizes, "--per-second", "0", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {one["kind"] for one in found["curves"]} == {"submit", "status", "list", "events"}
    assert all(one["calls"] for one in (*found["curves"], *found["mixed"]["figures"]))
    before, after = found["mixed"]["before"], found["mixed"]["after"]
    opened = {state: count for state, count in after["connections"].items() if state != "idle"}
    assert sum(opened.values()) <= 2, "transactions were left open; the sweeper's may be under way"
    assert after["tables"]["erasure_requests"]["rows"] > before["tables"]["erasure_requests"]["rows"]
