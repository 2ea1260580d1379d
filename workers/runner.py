"""The child process of one job: `python -m workers.runner <parent pid>`, the claim as JSON on stdin.

It says what it does as JSON lines on stdout, and ends with exit status 0 when the job is settled. Whatever goes wrong
is told as one error line. It dies with its parent: nobody would hold the lease for it any more.
"""

import ctypes
import faulthandler
import json
import os
import resource
import signal
import sys
import threading
import time
from typing import Any, TextIO

PR_SET_PDEATHSIG = 1
STOP_AND_KEEP = signal.SIGUSR1
POLL_SECONDS = 0.25
TOLD, ORPHANED = 3, 4


class Stopping:
    """Set by SIGTERM, and by SIGUSR1 if the job is to go on later; looked at between steps."""

    def __init__(self) -> None:
        self.asked = self.goes_on = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(STOP_AND_KEEP, self._ask)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to hear

    def _ask(self, number: int, _frame: object) -> None:
        self.asked, self.goes_on = True, self.goes_on or number == STOP_AND_KEEP


class Voice:
    """Says lines to the supervisor. `progress` is also a step boundary: it raises Cancelled when asked to stop."""

    def __init__(self, out: TextIO, stopping: Stopping) -> None:
        self._out = out
        self._stopping = stopping

    def progress(self, stage: str, attempt: int, share: float) -> None:
        """`share` is of the whole job, 0 to 1."""
        self._say({"event": "progress", "stage": stage, "attempt": attempt, "progress": round(share, 4)})
        self.boundary()

    def boundary(self) -> None:
        """Raises Cancelled, or Stopped, if the supervisor has asked this process to stop."""
        if self._stopping.asked:
            from workers.errors import Cancelled, Stopped

            raise (Stopped if self._stopping.goes_on else Cancelled)("The job was asked to stop.")

    def error(self, code: str, sentence: str) -> None:
        self._say({"event": "error", "code": code, "sentence": sentence})

    def _say(self, line: dict[str, Any]) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


def main() -> int:
    parent_pid = int(sys.argv[1])
    die_with(parent_pid)
    leave_no_core()
    faulthandler.enable()
    voice = Voice(_take_stdout(), Stopping())
    try:
        _run(json.load(sys.stdin), voice)
    except BaseException as error:  # noqa: BLE001 - the one place where every error of a job becomes words
        from records.logs import told
        from workers.failures import explain

        failure = explain(error)
        told("runner.error", error, code=failure.code)
        voice.error(failure.code, failure.sentence)
        return TOLD
    return 0


def die_with(parent_pid: int) -> None:
    """From now on the kernel kills this process when the thread that started it ends; elsewhere a thread looks."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    else:
        threading.Thread(target=_watch_parent, args=(parent_pid,), daemon=True).start()
    if os.getppid() != parent_pid:  # it died before we were armed
        os._exit(ORPHANED)


def leave_no_core() -> None:
    """A process that crashes writes its memory to the disk, the opened forget set with it: not from now on, nor what it
    starts.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _watch_parent(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(POLL_SECONDS)
    os._exit(ORPHANED)


def _run(claim: dict[str, Any], voice: Voice) -> None:
    from records import logs, tracing
    from records.jobs import Claim
    from records.parts import open_parts

    held = Claim(**claim)
    logs.to_stderr(held)
    tracing.start("lethe-runner")
    try:
        with tracing.span("runner", parent=held.traceparent):
            from workers.pipeline import run  # seconds of it are libraries: part of the trace

            run(held, open_parts(), voice)
    finally:
        tracing.stop()


def _take_stdout() -> TextIO:
    """Our own copy of stdout; what libraries print goes to stderr instead."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return ours


if __name__ == "__main__":
    sys.exit(main())
