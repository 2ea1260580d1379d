"""A PostgreSQL that comes back by its own tools, with the store as it is now: what was purged in between stays so."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lethe.cli import main
from lethe.verify import verify_data
from records import versions
from records.erasures import keep_up
from records.parts import Parts, Settings
from records.purging import purge
from records.rows import JobRow, RequestRow, VersionRow
from records.settings import DatabaseSettings
from tests.conftest import Tenant, settings_in
from tests.postgres import postgres_database
from tests.service import worker
from tests.service.conftest import submit

pytestmark = pytest.mark.postgres


@pytest.fixture
def settings(tmp_path: Path, import_root: Path) -> Iterator[Settings]:
    with postgres_database() as url:
        yield replace(settings_in(tmp_path, import_root), database=DatabaseSettings(database_url=url, database_pool=5))


def tool(settings: Settings, name: str, *arguments: str) -> None:
    """One of PostgreSQL's programs, on the test's database."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is missing: install PostgreSQL's client tools")
        pytest.skip(f"needs {name}: install PostgreSQL's client tools (apt install postgresql-client)")
    url = settings.database.database_url.get_secret_value().replace("+psycopg", "")
    subprocess.run([found, *arguments, "--dbname", url], check=True, capture_output=True, timeout=60)


def test_a_dump_comes_back_without_what_was_destroyed_since(
    parts: Parts, client: TestClient, ours: Tenant, model: str, settings: Settings, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    gone, runs = (submit(client, ours, model).json()["id"] for _ in range(2))
    worker.publish(parts, gone)
    held = worker.claim(parts, runs)
    dump = str(tmp_path / "dump")
    tool(settings, "pg_dump", "--format=custom", f"--file={dump}")

    client.delete(f"/v1/erasure-requests/{gone}/payload", headers=ours.headers)
    with parts.database.transaction() as session:
        first = versions.version_of(session, held.model_id, 1)
        assert first is not None
        purge(session, first, "test")
    lost = submit(client, ours, model).json()["id"]
    keep_up(parts.database, parts.store)  # as the sweeper does every two seconds
    parts.database.dispose()
    tool(settings, "pg_restore", "--clean", "--if-exists", dump)

    with parts.database.reading() as session:
        assert session.get_one(RequestRow, gone).wrapped_key is not None  # the dump knew it
    monkeypatch.setenv("LETHE_DATABASE_URL", settings.database.database_url.get_secret_value())
    with pytest.raises(SystemExit) as ended:
        main(["restore", "--data-dir", str(settings.place.folder)])
    said = " ".join(capsys.readouterr().out.split())
    assert not ended.value.code, said
    assert "1 jobs queued again. Destroyed once more: 1 forget sets, 0 datasets, the weights of 1 versions" in said
    with parts.database.reading() as session:
        assert session.get_one(RequestRow, gone).wrapped_key is None
        assert parts.vault.forget_set(session.get_one(RequestRow, runs))
        assert session.get(RequestRow, lost) is None
        assert session.get_one(JobRow, held.job_id).state == "queued"
        assert session.query(VersionRow.state).filter_by(number=1).scalar() == "purged"
    worker.publish(parts, runs)
    assert verify_data(settings.place.folder)[0] == []
