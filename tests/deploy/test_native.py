"""The native start: everything answers, nothing outlives it, and the next start on the same folder goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.children import NotStarted
from deploy.native import Native, Plan
from lethe.client import Client
from tests.workers.test_faults import running
from tests.workers.test_supervisor import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    return [sys.executable, "-m", "deploy.native", "--workers", "1", "--data-dir", str(tmp_path / "native")]


def test_it_answers_ends_with_whoever_is_killed_and_goes_on(command: list[str], tmp_path: Path) -> None:
    keys = []
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()
        ready = json.loads(line)
        children = descendants(process.pid)
        with Client(ready["urls"][0]) as client:
            assert client.ready()["status"] == "ready"
        keys.append((tmp_path / "native" / "admin.key").read_text())
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        assert len(children) >= 5, "PostgreSQL, Redis, an API, a worker, a sweeper"
        wait_for(lambda: not any(map(running, children)), "the end of all it started", 20.0)  # noqa: B023
    assert keys[0] == keys[1]
    secrets = [path for path in (tmp_path / "native").glob("*.password") if path.stat().st_mode & 0o077]
    assert secrets == []


def test_a_server_that_does_not_start_is_one_sentence(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "native", postgres_options=("shared_buffers=nonsense",))
    with pytest.raises(NotStarted, match=r"postgres did not start.*postgres\.log"), Native(plan):
        pass


def descendants(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(line.split()[0]): int(line.split()[1]) for line in found.splitlines()}
    below, more = set(), {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more} - below
        below |= more
    return sorted(below - {os.getpid()})
