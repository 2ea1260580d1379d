"""Where the executions of one job leave their state to each other: beside the private folders of records/scratch.py, in
a folder that outlives the execution. It goes when the job is over, or after a day.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from records.database import Database, DatabaseTrouble
from records.rows import JobRow
from records.states import TERMINAL_JOB_STATES

CHECKPOINT = ".checkpoint"
CHECKPOINT_SECONDS = 24 * 3600.0


def checkpoint_folder(root: Path, job_id: str) -> Path:
    """Of one job."""
    return root / f"{job_id}{CHECKPOINT}"


def sweep_checkpoints(root: Path, is_over: Callable[[str], bool]) -> int:
    """Remove the checkpoints of jobs that are over, and any older than a day; returns how many.

    `is_over` says it of a job id.
    """
    useless = [one for one in root.glob(f"*{CHECKPOINT}") if _is_old(one) or is_over(one.stem)]
    for folder in useless:
        shutil.rmtree(folder, ignore_errors=True)
    return len(useless)


def over_in(database: Database) -> Callable[[str], bool]:
    """Says of a job id whether that job is over, or not there. While the database is away none is."""

    def is_over(job_id: str) -> bool:
        try:
            with database.reading() as session:
                job = session.get(JobRow, job_id)
        except DatabaseTrouble:  # a later sweep looks again
            return False
        return job is None or job.state in TERMINAL_JOB_STATES

    return is_over


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > CHECKPOINT_SECONDS
    except FileNotFoundError:  # another sweep was here
        return True
