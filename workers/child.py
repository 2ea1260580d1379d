"""One runner process, seen from the supervisor: started, listened to, asked to stop, killed.

The child leads a session of its own, so that one signal reaches everything it started. It kills itself when the thread
that started it ends (PR_SET_PDEATHSIG, see workers/runner.py): start it from the thread that waits for it.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from records.jobs import Claim
from workers.runner import STOP_AND_KEEP

RUNNER: tuple[str, ...] = (sys.executable, "-m", "workers.runner")
LINE_BYTES = 64 * 1024
REAP_SECONDS = 10.0

QUIET = {  # the runner reads local files only, and says nothing to anybody
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
}


class Child:
    """A running runner. `next_line` and `poll` never block longer than asked."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._silent = False
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name=f"runner-{process.pid}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def next_line(self, timeout_seconds: float) -> dict[str, Any] | None:
        """What the runner said next; None when nothing came in time or the runner has ended."""
        timeout_seconds = max(0.0, timeout_seconds)
        with contextlib.suppress(queue.Empty, subprocess.TimeoutExpired):
            if self._silent:
                self._process.wait(timeout_seconds)
            else:
                line = self._lines.get(timeout=timeout_seconds)
                self._silent = line is None
                return line
        return None

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll()

    def ask_to_stop(self, goes_on: bool = False) -> None:
        """The runner ends at its next step boundary; it keeps where it was if the job `goes_on` later."""
        if self._process.poll() is None:
            self._process.send_signal(STOP_AND_KEEP if goes_on else signal.SIGTERM)

    def kill(self) -> int:
        """End the runner and all it started, at once, and return the exit status."""
        _kill_group(self._process.pid)
        status = self._process.wait(REAP_SECONDS)
        self._reader.join(REAP_SECONDS)
        return status

    def rest(self) -> list[dict[str, Any]]:
        """Lines not yet taken; complete after `kill`."""
        lines = []
        while (line := self.next_line(0)) is not None:
            lines.append(line)
        return lines

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - `start` asked for a pipe
        with self._process.stdout as stdout:
            while raw := stdout.readline(LINE_BYTES):
                line = _parsed(raw)
                if line is not None:
                    self._lines.put(line)
        self._lines.put(None)


def start(command: Sequence[str], environment: Mapping[str, str], held: Claim) -> Child:
    """Start a runner for `held`. The claim travels on stdin; our pid on the command line, so that the child can tell
    whether its parent died before it could arm itself."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, ids only
        [*command, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **QUIET, **environment},
        start_new_session=True,
    )
    assert process.stdin is not None  # noqa: S101 - asked for just above
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # it may die at once; its status says so
        stdin.write(json.dumps(asdict(held)).encode())
    return Child(process)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    """None for anything that is not ours: a library may print."""
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "event" in line else None


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # all gone already; macOS says EPERM for zombies
        return
