"""Several workers, random kill -9, workers that sleep through their lease: every job once, in order, none twice."""

import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from records import audit, dispatch
from records.database import Database
from records.keys import KeyRing
from records.rows import AuditEntryRow, JobRow, ModelRow, VersionRow
from tests.make import make_job, make_model

MODELS, JOBS_EACH, WORKERS, MOST_KILLS, LIMIT_SECONDS = 3, 6, 4, 10, 120


@pytest.mark.slow
def test_every_job_runs_to_effect_exactly_once(database: Database, keys: KeyRing, tmp_path_factory) -> None:
    with database.transaction() as session:
        models = [make_model(session) for _ in range(MODELS)]
        for model in models * JOBS_EACH:
            make_job(session, model)
    folder = next(tmp_path_factory.getbasetemp().glob("ring*")) / "keys"
    kills = _run_workers(database, folder)
    assert kills >= 3
    with database.reading() as session:
        assert set(session.scalars(sa.select(JobRow.state))) == {"succeeded"}
        for model in models:
            _check_model(session, model)
        audit.check_log(session, keys.public().log_verifier_key)


def _run_workers(database: Database, folder: Path) -> int:
    """Keep WORKERS alive, kill one now and then, until nothing is unfinished. Returns how many were killed."""
    url = database.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.records.claiming", url, str(folder)]
    workers = [subprocess.Popen(command) for _ in range(WORKERS)]
    deadline, kills = time.monotonic() + LIMIT_SECONDS, 0
    try:
        while _unfinished(database) and time.monotonic() < deadline:
            time.sleep(0.4)
            if kills == MOST_KILLS:  # a slow machine must get the chance to start its workers
                continue
            victim = random.randrange(WORKERS)
            workers[victim].kill()
            workers[victim].wait()
            workers[victim] = subprocess.Popen(command)
            kills += 1
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return kills


def _unfinished(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(sa.select(sa.func.count()).where(JobRow.state.in_(["queued", "running"]))) or 0


def _check_model(session, model: ModelRow) -> None:
    """One version a job, each with its predecessor as parent, jobs finished in their order, none overlapping."""
    numbered = list(
        session.scalars(sa.select(VersionRow).where(VersionRow.model_id == model.id).order_by(VersionRow.number))
    )
    assert [version.number for version in numbered] == list(range(1, JOBS_EACH + 2))
    assert all(after.parent == before.number for before, after in pairwise(numbered))
    told = session.execute(
        sa.select(AuditEntryRow.tag, AuditEntryRow.job_id)
        .where(AuditEntryRow.model_id == model.id, AuditEntryRow.tag.in_(["job.running", "job.succeeded"]))
        .order_by(AuditEntryRow.position)
    ).all()
    assert [tag for tag, _ in told] == ["job.running", "job.succeeded"] * JOBS_EACH
    assert all(started[1] == ended[1] for started, ended in zip(told[::2], told[1::2], strict=True))
    positions = [session.get_one(JobRow, job_id).position for _, job_id in told[::2]]
    assert positions == sorted(positions)
    assert dispatch.claimable_models(session) == []
