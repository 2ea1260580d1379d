"""Stages are timed whether they end well or not, and wait until a transaction of the job takes them along."""

import time
from pathlib import Path

import pytest
import torch

from records import counters, jobs
from records.jobs import Claim, LeaseLost
from records.parts import Parts
from records.rows import StageRow
from tests.workers.conftest import claimed
from workers.pipeline import _Job
from workers.ranks import Team
from workers.stages import Stages

HELD = Claim("job_1", "mod_1", "ten_1", 3, 1)


class Silent:
    def progress(self, stage: str, attempt: int, share: float) -> None:
        """Nobody listens."""


def job_of(parts: Parts, held: Claim, folder: Path) -> _Job:
    return _Job(held, parts, Silent(), folder, Stages(held), Team(1, folder, parts.settings.worker, held))


def stored(parts: Parts) -> list[tuple[str, int, int]]:
    with parts.database.reading() as session:
        return [(row.stage, row.attempt, row.fence) for row in session.query(StageRow).order_by(StageRow.finished_at)]


def test_a_stage_is_timed_once_however_it_ends() -> None:
    stages = Stages(HELD)
    with stages.timed("load", 0):
        time.sleep(0.05)
    with pytest.raises(ValueError, match="x"), stages.timed("unlearn", 1):
        raise ValueError("x")
    load, unlearn = stages.take()
    assert (load.stage, load.attempt, load.job_id, load.fence) == ("load", 0, "job_1", 3)
    assert 0.05 <= load.seconds < 5
    assert (unlearn.stage, unlearn.attempt, unlearn.gpu_peak_bytes) == ("unlearn", 1, None)
    assert stages.take() == []


def test_the_rows_come_with_what_the_job_writes(parts: Parts, tmp_path: Path) -> None:
    held = claimed(parts)
    job = job_of(parts, held, tmp_path)
    with job.stages.timed("store", 2):
        pass
    with job._making_a_version() as session:
        job._record(session, None)
    assert stored(parts) == [("store", 2, held.fence)]


def test_a_version_that_comes_too_late_is_counted(parts: Parts, tmp_path: Path) -> None:
    held = claimed(parts)
    with parts.database.transaction() as session:
        jobs.hand_back(session, held, "test", counts=False)
    job = job_of(parts, held, tmp_path)
    with pytest.raises(LeaseLost), job._making_a_version() as session:
        job._record(session, None)
    with parts.database.reading() as session:
        assert counters.read(session)["stale_publish"] == 1
    assert stored(parts) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_a_stage_held_of_a_gpu_is_its_own() -> None:
    stages = Stages(HELD)
    torch.zeros(1, device="cuda")
    for stage, mebibytes in (("unlearn", 64), ("evaluate", 16)):
        with stages.timed(stage, 1):
            torch.zeros(mebibytes * 2**20, dtype=torch.uint8, device="cuda")
    unlearn, evaluate = (row.gpu_peak_bytes or 0 for row in stages.take())
    assert 64 * 2**20 <= unlearn < 80 * 2**20
    assert 16 * 2**20 <= evaluate < 32 * 2**20
