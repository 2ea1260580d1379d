"""A database is migrated while others use it; a process and a schema that do not fit together say so."""

import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from lethe.embedded import Address, serve_api
from records import migrate
from records.base import Row
from records.database import make_engine
from records.parts import Parts
from tests.postgres import postgres_database

TABLE = "audit_entries"


@pytest.fixture
def postgres() -> Iterator[sa.Engine]:
    with postgres_database() as url:
        made = make_engine(url, pool_size=8)
        migrate.upgrade(made, "0001")
        yield made
        made.dispose()


def index_names(engine: sa.Engine) -> set[str | None]:
    return {index["name"] for index in sa.inspect(engine).get_indexes(TABLE)}


@pytest.mark.postgres
def test_readers_pass_a_migration_that_waits(postgres: sa.Engine) -> None:
    migrating = threading.Thread(target=migrate.upgrade, args=(postgres,))
    with postgres.begin() as holder:
        holder.execute(sa.text("SELECT * FROM erasure_requests"))
        migrating.start()
        deadline = time.monotonic() + 30
        while not _waits(postgres) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not migrate.at_head(postgres)
        with postgres.connect() as reader:
            reader.execute(sa.text("SET lock_timeout = '6s'"))
            reader.execute(sa.text("SELECT count(*) FROM erasure_requests"))
    migrating.join(60)
    assert migrate.at_head(postgres)


def _waits(engine: sa.Engine) -> bool:
    query = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT granted AND datname = "
    with engine.connect() as connection:
        return bool(connection.scalar(sa.text(query + "current_database()")))


@pytest.mark.postgres
def test_patience_ends_with_a_sentence_and_nothing_half_done(postgres: sa.Engine) -> None:
    with postgres.begin() as holder:
        holder.execute(sa.text("LOCK TABLE erasure_requests"))
        with pytest.raises(migrate.NotMigrated, match=r"held a table.*schema is 0001.*lethe migrate"):
            migrate.upgrade(postgres, patience_seconds=0)
    assert migrate.upgrade(postgres)[0] == "0002: why a method"


@pytest.mark.postgres
def test_an_index_is_made_while_somebody_writes_and_one_that_broke_off_is_made_anew(postgres: sa.Engine) -> None:
    migrate.upgrade(postgres, "0011")
    broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = CAST('ix_audit_entries_job_id' AS regclass)"
    with postgres.begin() as connection:
        connection.execute(sa.text(f"CREATE INDEX ix_audit_entries_job_id ON {TABLE} (job_id)"))
        connection.execute(sa.text(broken))
    migrating = threading.Thread(target=migrate.upgrade, args=(postgres,))
    with postgres.begin() as writer:
        entry = {"position": 0, "tag": "x", "event": "{}", "salt": b"", "commitment": b""}
        writer.execute(Row.metadata.tables[TABLE].insert().values(**entry))
        migrating.start()
        time.sleep(0.5)
        with postgres.begin() as second:  # an index made in the plain way would shut this one out
            second.execute(sa.text("SET lock_timeout = '5s'"))
            second.execute(Row.metadata.tables[TABLE].insert().values(**{**entry, "position": 1}))
    migrating.join(60)
    assert "ix_audit_entries_job_id" in index_names(postgres)
    with postgres.connect() as connection:
        assert connection.scalar(sa.text("SELECT bool_and(indisvalid) FROM pg_index")) is True


@pytest.mark.postgres
def test_a_migrator_leaves_no_limits_behind(postgres: sa.Engine) -> None:
    migrate.upgrade(postgres)
    with postgres.connect() as connection:
        assert connection.scalar(sa.text("SHOW lock_timeout")) == "0"


def test_a_process_does_not_start_on_an_older_schema(parts: Parts) -> None:
    migrate.downgrade(parts.database.engine, "0010")
    with pytest.raises(migrate.WrongSchema, match=r"older schema than this code\. Run 'lethe migrate'"):
        serve_api(parts.settings, Address(port=0))


def test_nor_on_a_newer_one_but_one_that_runs_goes_on(parts: Parts) -> None:
    engine = parts.database.engine
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for starts in (lambda: serve_api(parts.settings, Address(port=0)), lambda: migrate.upgrade(engine)):
        with pytest.raises(migrate.WrongSchema, match="schema 9999, which is newer than this code"):
            starts()
    assert not migrate.is_behind(engine)
