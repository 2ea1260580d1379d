"""What a host keeps is thrown out by whatever process runs there, without a job and without anybody calling."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lethe import embedded
from lethe.housekeeping import host_kept_clean
from records import jobs
from records.object_store import ObjectStore
from records.parts import Parts
from records.read_cache import ReadCache
from records.scratch import scratch_folder, scratch_root
from tests.make import make_job, make_model
from tests.object_stores import ObjectServer, moto_server
from tests.service.live import wait_for
from workers.checkpoint_folders import checkpoint_folder

__all__ = ["moto_server"]


def test_the_folders_of_the_dead_go_and_those_of_the_living_stay(parts: Parts) -> None:
    root = scratch_root(parts.settings)
    with scratch_folder(root, "living") as living:
        (root / "dead").mkdir()
        (root / "dead" / "lock").touch()
        with host_kept_clean(parts, 0.01):
            wait_for(lambda: not (root / "dead").exists(), 5)
        assert living.is_dir()


def test_checkpoints_of_jobs_that_ended_elsewhere_and_of_yesterday_go(parts: Parts) -> None:
    root = scratch_root(parts.settings)
    with parts.database.transaction() as session:
        over, waits, old = (make_job(session, make_model(session)) for _ in range(3))
        jobs.cancel(session, over, "test")
    for job in (over, waits, old):
        checkpoint_folder(root, job.id).mkdir(parents=True)
    yesterday = time.time() - 25 * 3600
    os.utime(checkpoint_folder(root, old.id), (yesterday, yesterday))
    with host_kept_clean(parts, 0.01):
        wait_for(lambda: [*root.iterdir()] == [checkpoint_folder(root, waits.id)], 5)


def test_an_idle_worker_keeps_its_host_clean(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was killed and started anew may wait for days for its next job."""
    root = scratch_root(parts.settings)
    (root / "dead").mkdir(parents=True)
    (root / "dead" / "lock").touch()
    monkeypatch.setattr(embedded, "_needs_broker", lambda *_: None)
    monkeypatch.setattr(embedded, "open_parts", lambda _: parts)
    monkeypatch.setattr(embedded.tasks, "register", lambda *_: None)  # it would reach the apps of other tests
    monkeypatch.setattr(parts.queue, "worker_main", lambda _: wait_for(lambda: not (root / "dead").exists(), 5))
    embedded.work(parts.settings)


def test_weights_purged_elsewhere_leave_the_cache(parts: Parts, moto_server: ObjectServer, tmp_path: Path) -> None:
    here, elsewhere = (
        ObjectStore(moto_server.s3, ReadCache(tmp_path / name, 1 << 30)) for name in ("here", "elsewhere")
    )
    (tmp_path / "weights").write_bytes(b"weights")
    blob = here.put_file(tmp_path / "weights")
    elsewhere.delete(blob.digest)
    assert here.cache.size_bytes() == blob.size_bytes
    os.utime(here.cache.folder / "swept", (0, 0))
    with host_kept_clean(replace(parts, store=here)):
        wait_for(lambda: here.cache.size_bytes() == 0, 5)


def test_a_store_that_is_away_ends_no_housekeeping(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def sweep_cache() -> None:
        asked.append(1)
        raise RuntimeError

    monkeypatch.setattr(parts.store, "sweep_cache", sweep_cache)
    with host_kept_clean(parts, 0.01):
        wait_for(lambda: len(asked) > 2, 5)
