"""The migrations make exactly the tables of the rows, on SQLite and on Postgres, forwards and back."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from records import migrate
from records.base import Row, utc_now
from records.database import database_seconds, make_engine
from tests.postgres import postgres_database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    if request.param == "sqlite":
        made = make_engine(f"sqlite:///{tmp_path}/lethe.db")
        yield made
        made.dispose()
    else:
        with postgres_database() as url:
            made = make_engine(url, pool_size=5)
            yield made
            made.dispose()


def test_migrated_tables_are_the_rows(engine: sa.Engine) -> None:
    assert not migrate.at_head(engine)
    migrate.upgrade(engine)
    assert migrate.at_head(engine)
    migrate.check_drift(engine)
    assert set(Row.metadata.tables) <= set(sa.inspect(engine).get_table_names())


def test_every_migration_can_be_undone(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    migrate.downgrade(engine, "base")
    assert set(sa.inspect(engine).get_table_names()) <= {"alembic_version"}
    migrate.upgrade(engine)
    assert migrate.at_head(engine)


def test_two_migrators_at_once(engine: sa.Engine) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            migrate.upgrade(engine)
        except Exception as error:  # noqa: BLE001 - handed to the assertion below
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert migrate.at_head(engine)


def test_a_new_file_in_which_another_process_writes_is_waited_for(tmp_path: Path) -> None:
    """SQLite does not wait by itself here: turning a file to WAL is refused at once while anybody writes in it."""
    writer = sqlite3.connect(tmp_path / "lethe.db", isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(0.2, writer.execute, ["COMMIT"])
    ends.start()
    engine = make_engine(f"sqlite:///{tmp_path}/lethe.db")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()
    ends.join()
    writer.close()


def test_a_check_constraint_bites(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    tables = Row.metadata.tables
    now = utc_now()
    with engine.begin() as connection:
        connection.execute(tables["tenants"].insert().values(id="ten_1", name="one", created_at=now))
        connection.execute(
            tables["models"].insert().values(
                id="mod_1", tenant_id="ten_1", name="a/b", source={}, defaults={}, last_version=0, last_job=0,
                lease_expires_at=0.0, fence=0, created_at=now,
            )
        )  # fmt: skip
    row = {
        "id": "dat_1", "tenant_id": "ten_1", "model_id": "mod_1", "role": "gossip", "rows": 1, "size_bytes": 1,
        "plain_digest": "x", "file_digest": "x", "wrapped_key": b"x", "created_at": now,
    }  # fmt: skip
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(tables["datasets"].insert().values(**row))
    with engine.begin() as connection:
        connection.execute(tables["datasets"].insert().values(**{**row, "role": "retain"}))


def test_models_outlive_the_migration_that_gives_them_a_reference(engine: sa.Engine) -> None:
    migrate.upgrade(engine, "0003")
    row = "'mod_1', 'ten_1', 'a/b', '{}', '{}', 0, 0, 0.0, 0, '2026-01-01 00:00:00+00:00'"
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO tenants VALUES ('ten_1', 'one', '2026-01-01 00:00:00+00:00')"))
        columns = "id, tenant_id, name, source, defaults, last_version, last_job, lease_expires_at, fence, created_at"
        connection.execute(sa.text(f"INSERT INTO models ({columns}) VALUES ({row})"))
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE models SET reference_id = 'mod_1'"))
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(sa.text("UPDATE models SET reference_id = 'mod_2'"))
    migrate.downgrade(engine, "0003")
    with engine.begin() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM models")).scalar_one() == 1


def test_database_clock_agrees_with_ours(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        seconds = connection.execute(sa.select(database_seconds())).scalar_one()
    assert abs(seconds - utc_now().timestamp()) < 5.0
