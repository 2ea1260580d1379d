"""The real runner, in which a fault strikes at an exact place: the arguments are a script of (place, victim) for each
execution, a file that counts executions, and, appended by the supervisor, its pid."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from workers import runner

STEPS_TO_MIDWAY = 4


def main() -> int:
    script, counter = json.loads(sys.argv[1]), Path(sys.argv[2])
    execution = len(counter.read_bytes()) if counter.exists() else 0
    counter.write_bytes(b"x" * (execution + 1))
    if execution < len(script):
        _arm(*script[execution])
    sys.argv = [sys.argv[0], sys.argv[-1]]
    return runner.main()


def _arm(place: str, victim: str) -> None:
    runner_progress = runner.Voice.progress
    steps, told = itertools.count(), Counter[str]()
    wanted = 2 if victim == "rank" else 1  # a stage is told of before its ranks are at work

    def progress(self: runner.Voice, stage: str, attempt: int, share: float) -> None:
        runner_progress(self, stage, attempt, share)
        midway = place == "midway" and stage == "unlearn" and next(steps) == STEPS_TO_MIDWAY
        told[name := f"{stage}{attempt if attempt > 1 else ''}"] += 1
        if midway or (name == place and told[name] == wanted):
            _strike(victim)

    runner.Voice.progress = progress  # type: ignore[method-assign]  # the fault under test
    if place in {"stored", "committed"}:
        _arm_pipeline(place, victim)
    if place == "poisoned":
        _poison()
    if place == "full":
        _fill_disk()


def _arm_pipeline(place: str, victim: str) -> None:
    """stored: all files are in the store, no row is. committed: the rows are, nobody was told."""
    from workers import pipeline

    name = {"stored": "store_candidate", "committed": "run"}[place]
    real = getattr(pipeline, name)

    def struck(*arguments: Any) -> Any:
        done = real(*arguments)
        _strike(victim)
        return done

    setattr(pipeline, name, struck)


def _poison() -> None:
    """After every step of every attempt one weight is not a number."""
    from workers import together

    real = together.unlearn

    def unlearn(student: Any, tokenizer: Any, work: Any, on_step: Any, **more: Any) -> Any:
        def struck(progress: Any) -> None:
            next(student.parameters()).data[:] = float("nan")
            on_step(progress)

        return real(student, tokenizer, work, struck, **more)

    together.unlearn = unlearn  # type: ignore[assignment]  # the fault under test


def _fill_disk() -> None:
    """The store's disk takes no more new files; the database's still does."""
    from records import store

    def mkstemp(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.tempfile.mkstemp = mkstemp  # type: ignore[attr-defined]  # the fault under test


def _move_head() -> None:
    """Another version becomes head, as if a person had approved a candidate that waited."""
    from records.parts import open_parts
    from records.rows import ModelRow, VersionRow

    parts = open_parts()
    with parts.database.transaction() as session:
        model, base = session.query(ModelRow).one(), session.query(VersionRow).one()
        same = {
            name: getattr(base, name) for name in ("tenant_id", "model_id", "state", "manifest_digest", "size_bytes")
        }
        session.add(VersionRow(number=2, parent=1, **same))
        model.head = model.last_version = 2
    parts.close()


def _starve() -> None:
    import torch

    torch.empty(1 << 60, dtype=torch.uint8)


def _strike(victim: str) -> None:
    if victim in {"head", "memory"}:
        {"head": _move_head, "memory": _starve}[victim]()
        return
    if victim == "rank":
        os.kill(other_ranks(os.getpid())[0], signal.SIGKILL)
        return
    os.kill(os.getppid() if victim == "parent" else os.getpid(), signal.SIGKILL)
    time.sleep(30)  # a runner whose parent is dead must not get to the end of this


def other_ranks(pid: int) -> list[int]:
    """The ranks that a runner has started."""
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "spawn_main"], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


if __name__ == "__main__":
    sys.exit(main())
