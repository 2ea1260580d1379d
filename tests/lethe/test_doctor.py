"""`lethe doctor`: each thing that can be wrong is named with its remedy, and nothing is changed by looking."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from lethe import checkup
from lethe.checkup import Found, Mark, examine
from lethe.cli import main
from records import migrate, rotation
from records.base import utc_now
from records.parts import Parts, open_parts
from records.rows import AuditEntryRow, JobRow, ModelRow, RequestRow
from records.settings import DatabaseSettings, Place, QueueSettings, TransportSettings, WorkerSettings
from tests.conftest import Tenant, everything_stored
from tests.postgres import postgres_database
from tests.service import worker
from tests.service.conftest import submit

NOBODY = "redis://:a-secret@127.0.0.1:1/0"


def wrong(found: list[Found], mark: Mark = Mark.BROKEN) -> list[str]:
    return [one.check for one in found if one.mark == mark]


def change(parts: Parts, statement: sa.Executable) -> None:
    """As somebody would who goes past the product."""
    with parts.database.engine.begin() as connection:
        connection.execute(statement)


def test_a_sound_one_is_well_and_stays_as_it_was(
    parts: Parts, client: TestClient, ours: Tenant, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(client, ours, model)
    before = everything_stored(parts)
    found = examine(parts.settings)
    assert wrong(found) == []
    assert wrong(found, Mark.WARNING) == []
    named = {"settings", "keys", "store", "database", "schema", "scratch", "audit log", "queue", "deadlines", "gpu"}
    assert {one.check for one in found} == named
    assert everything_stored(parts) == before
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", "--data-dir", str(parts.settings.place.folder)])
    assert not ended.value.code
    assert {one["check"] for one in json.loads(capsys.readouterr().out)} == named


def test_what_is_not_there_is_not_made(tmp_path: Path, parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert wrong(examine(replace(parts.settings, place=Place(data_dir=empty)))) == ["keys", "store", "database"]
    assert list(empty.iterdir()) == []
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--data-dir", str(tmp_path / "nowhere")])
    assert ended.value.code == 1
    assert "→ Give --data-dir" in capsys.readouterr().out


def test_a_lost_key_is_told_before_a_start_makes_another(parts: Parts) -> None:
    (parts.settings.place.folder / "keys" / "master.key").unlink()
    found = examine(parts.settings)
    assert wrong(found) == ["keys"]
    assert not (parts.settings.place.folder / "keys" / "master.key").exists()


def test_jobs_that_this_host_could_not_run(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    [one] = [one for one in examine(parts.settings) if one.mark == Mark.BROKEN]
    assert (one.check, "transformers" in one.what, "lethe[embedded]" in one.remedy) == ("packages", True, True)
    elsewhere = replace(parts.settings, place=Place(mode="production", data_dir=parts.settings.place.data_dir))
    assert "packages" not in wrong(examine(elsewhere))


def test_a_key_that_others_can_read(parts: Parts) -> None:
    (parts.settings.place.folder / "keys" / "log.key").chmod(0o644)
    [one] = [one for one in examine(parts.settings) if one.mark == Mark.BROKEN]
    assert (one.check, "chmod 600" in one.what) == ("keys", True)


def test_an_old_schema(parts: Parts) -> None:
    migrate.downgrade(parts.database.engine, "0001")
    assert wrong(examine(parts.settings)) == ["schema"]


def test_a_log_and_a_version_that_were_changed(
    parts: Parts, client: TestClient, ours: Tenant, model: str, import_root: Path
) -> None:
    newest = sa.select(sa.func.max(AuditEntryRow.position)).scalar_subquery()
    change(parts, sa.update(AuditEntryRow).where(AuditEntryRow.position == newest).values(tag="job.forged"))
    assert wrong(examine(parts.settings)) == ["audit log"]
    for digest in list(parts.store.iter_digests()):
        parts.store.delete(digest)
    assert len(wrong(examine(parts.settings))) == 2


def test_a_rotten_file_of_a_head(parts: Parts, client: TestClient, model: str) -> None:
    smallest = min((parts.store.path(one) for one in parts.store.iter_digests()), key=lambda path: path.stat().st_size)
    smallest.chmod(0o600)
    smallest.write_bytes(b"[]")
    assert [name.split()[0] for name in wrong(examine(parts.settings))] == ["version"]


def test_work_that_nobody_does(parts: Parts, client: TestClient, ours: Tenant, model: str) -> None:
    submit(client, ours, model)
    change(parts, sa.update(JobRow).values(created_at=utc_now() - timedelta(hours=3)))
    change(parts, sa.update(RequestRow).values(due_at=utc_now() - timedelta(hours=1)))
    found = examine(parts.settings)
    assert wrong(found) == ["queue", "deadlines"]
    [remedy] = [one.remedy for one in found if one.check == "deadlines"]
    assert ("lethe approve" in remedy, "extend" in remedy) == (True, False)  # no call of Lethe's moves a deadline


def test_a_near_deadline_and_a_dead_worker(parts: Parts, client: TestClient, ours: Tenant, model: str) -> None:
    worker.claim(parts, submit(client, ours, model).json()["id"])
    change(parts, sa.update(RequestRow).values(due_at=utc_now() + timedelta(hours=30)))
    change(parts, sa.update(ModelRow).values(lease_expires_at=1.0))
    found = examine(parts.settings)
    assert wrong(found, Mark.WARNING) == ["leases", "deadlines"]
    assert "priority" not in found[-2].remedy  # it is set when a request is made, and never changed


def test_a_broker_that_is_away_without_its_password(parts: Parts) -> None:
    found = examine(replace(parts.settings, queue=QueueSettings(broker_url=NOBODY)))
    assert wrong(found) == ["broker"]
    assert "a-secret" not in repr(found)


def test_a_broker_of_another_kind(parts: Parts) -> None:
    found = examine(replace(parts.settings, queue=QueueSettings(broker_url="amqp://me:a-secret@queue")))
    [one] = [one for one in found if one.mark == Mark.BROKEN]
    assert (one.check, "must begin with" in one.what, "a-secret" in repr(found)) == ("broker", True, False)


def test_a_broker_that_throws_hints_away_and_no_worker(
    parts: Parts, client: TestClient, ours: Tenant, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(client, ours, model)
    info = {"maxmemory": 1, "maxmemory_policy": "allkeys-lru", "aof_enabled": 0}
    monkeypatch.setattr(checkup, "broker_info", lambda app: info)
    monkeypatch.setattr(checkup, "workers_answering", lambda app, seconds: 0)
    found = examine(replace(parts.settings, queue=QueueSettings(broker_url=NOBODY)))
    assert (wrong(found), wrong(found, Mark.WARNING)) == (["workers"], ["broker"])


def test_no_room_for_a_job(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    assert wrong(examine(parts.settings)) == ["store", "scratch"]


def test_settings_certificate_and_device(parts: Parts, tmp_path: Path) -> None:
    for name in ("chain.pem", "key.pem"):
        (tmp_path / name).write_text("no certificate")
    tls = TransportSettings(tls_certificate=str(tmp_path / "chain.pem"), tls_key=str(tmp_path / "key.pem"))
    changed = replace(parts.settings, transport=tls, worker=WorkerSettings(device="cuda"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkup, "DEVICES", tmp_path)
        assert wrong(examine(changed)) == ["tls", "gpu"]
        (tmp_path / "nvidia0").touch()
        assert wrong(examine(changed)) == ["tls"]
        shared = replace(parts.settings, worker=WorkerSettings(worker_processes=2))
        assert wrong(examine(shared)) == ["gpu"], "two processes, one GPU"
        (tmp_path / "nvidia1").touch()
        assert wrong(examine(shared)) == []
    laptop = replace(parts.settings, place=Place(mode="production", data_dir=parts.settings.place.data_dir))
    assert wrong(examine(laptop)) == ["settings"]


def test_a_variable_that_is_misspelt(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_DATBASE_URL", "postgresql://me:a-secret@db/lethe")
    monkeypatch.setenv("LETHE_QWERTZ", "a-secret")
    found = examine(parts.settings)
    first, second = [one for one in found if one.mark == Mark.WARNING]
    assert (first.check, second.check, wrong(found)) == ("settings", "settings", [])
    assert "LETHE_DATBASE_URL" in first.what
    assert "LETHE_DATABASE_URL" in first.remedy
    assert "LETHE_QWERTZ" in second.what
    assert "a-secret" not in repr(found)


def test_a_device_that_is_none_is_refused(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_DEVICE", "gpu")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--data-dir", str(parts.settings.place.folder)])
    assert ended.value.code == 1


def test_a_clock_that_differs(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    now: Callable[[], float] = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 60)
    [one] = [one for one in examine(parts.settings) if one.mark == Mark.WARNING]
    assert (one.check, "+60 s" in one.what) == ("clock", True)


@pytest.mark.postgres
def test_postgres_and_a_pool_that_is_too_large(parts: Parts) -> None:
    with postgres_database() as url:
        settings = replace(parts.settings, database=DatabaseSettings(database_url=url, database_pool=5))
        open_parts(settings, migrates=True).close()
        found = examine(settings)
        assert (wrong(found), wrong(found, Mark.WARNING)) == ([], [])
        assert any(one.check == "database" and one.what.startswith("postgresql ") for one in found)
        large = DatabaseSettings(database_url=url, database_pool=100_000)
        assert wrong(examine(replace(settings, database=large)), Mark.WARNING) == ["database"]
    away = DatabaseSettings(database_url="postgresql+psycopg://me:a-secret@127.0.0.1:1/x")
    found = examine(replace(settings, database=away))
    assert wrong(found) == ["database"]
    assert "a-secret" not in repr(found)


def test_files_that_no_row_names_and_a_former_master_key(
    parts: Parts, client: TestClient, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    orphan = parts.store.put_bytes(b"left by a crash").digest
    os.utime(parts.store.path(orphan), (1, 1))
    parts.store.put_bytes(b"just put, its row may follow")
    rotation.rotate(parts.database, parts.settings.place.folder / "keys", parts.keys, "test")
    found = examine(parts.settings)
    assert wrong(found) == []
    said = " ".join(one.what for one in found)
    assert "1 files (0.0 GiB) older than 48 h that no row names" in said
    assert "1 former master keys" in said
