"""Private folders for files that a process needs for a while, on the data folder's file system so that they can be hard
links into the store.

Who makes a folder holds a lock in it for as long as it lives. The kernel drops the lock whatever way the process dies,
so a folder without a locked owner is garbage, and anybody may remove it: what is purged must not live on in it. The
lock's file goes last: a folder whose removal was cut short is known by it.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from records.parts import Settings

LOCK = "lock"
DRAFT = "lock.draft"


def scratch_root(settings: Settings) -> Path:
    """Where the processes of this data folder have such folders."""
    return settings.place.folder / "scratch"


@contextmanager
def scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """A fresh folder `root/name`, removed at the end. Raises FileExistsError if it is there already."""
    folder = root / name
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    descriptor = os.open(folder / DRAFT, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (folder / DRAFT).rename(folder / LOCK)  # a sweep must not see the lock before it is taken
        yield folder
    finally:
        _remove(folder)
        os.close(descriptor)


def sweep_scratch(root: Path) -> int:
    """Remove the folders that dead processes left; returns how many."""
    if not root.is_dir():
        return 0
    return sum(_remove_if_dead(folder) for folder in root.iterdir())


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
        _remove(folder)
        return True
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """As far as it goes. Where something stays, so does the lock's file, and the next sweep goes on."""
    with contextlib.suppress(OSError):  # such as of a folder that another process has just removed
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
        if {path.name for path in folder.iterdir()} <= {LOCK}:
            shutil.rmtree(folder)
