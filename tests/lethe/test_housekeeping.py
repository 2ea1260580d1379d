"""What a host of an API alone keeps is thrown out without a worker, and without anybody calling."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lethe.housekeeping import host_kept_clean
from records.object_store import ObjectStore
from records.parts import Parts
from records.read_cache import ReadCache
from records.scratch import scratch_folder, scratch_root
from tests.object_stores import ObjectServer, moto_server
from tests.service.live import wait_for

__all__ = ["moto_server"]


def test_the_folders_of_the_dead_go_and_those_of_the_living_stay(parts: Parts) -> None:
    root = scratch_root(parts.settings)
    with scratch_folder(root, "living") as living:
        (root / "dead").mkdir()
        (root / "dead" / "lock").touch()
        with host_kept_clean(parts, 0.01):
            wait_for(lambda: not (root / "dead").exists(), 5)
        assert living.is_dir()


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
