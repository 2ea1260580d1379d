"""Private folders for the files of one execution, on the store's file system so that they can be hard links.

The runner holds a lock on its folder for as long as it lives. The kernel drops the lock whatever way the runner dies,
so a folder without a locked owner is garbage, and anybody may remove it.

A job's checkpoint lies beside in a folder that outlives the execution: it goes when the job is over, or after a day.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from records.parts import Settings

LOCK = "lock"
CHECKPOINT = ".checkpoint"
CHECKPOINT_SECONDS = 24 * 3600.0


def scratch_root(settings: Settings) -> Path:
    """Where the executions of this data folder have their files."""
    return settings.place.folder / "scratch"


def checkpoint_folder(root: Path, job_id: str) -> Path:
    """Where the executions of one job leave their state to each other."""
    return root / f"{job_id}{CHECKPOINT}"


@contextmanager
def scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """A fresh folder `root/name`, removed at the end. Raises FileExistsError if it is there already."""
    folder = root / name
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    descriptor = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def sweep_scratch(root: Path) -> int:
    """Remove the folders that dead processes left; returns how many."""
    if not root.is_dir():
        return 0
    return sum(_remove_if_dead(folder) for folder in root.iterdir())


def sweep_checkpoints(root: Path, is_over: Callable[[str], bool]) -> int:
    """Remove the checkpoints of jobs that are over, and any older than a day; returns how many.

    `is_over` says it of a job id.
    """
    useless = [one for one in root.glob(f"*{CHECKPOINT}") if _is_old(one) or is_over(one.stem)]
    for folder in useless:
        shutil.rmtree(folder, ignore_errors=True)
    return len(useless)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > CHECKPOINT_SECONDS
    except FileNotFoundError:  # another sweep was here
        return True


def _remove_if_dead(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # not locked yet, or just removed; the next sweep sees it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)
