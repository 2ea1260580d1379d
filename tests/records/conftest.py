"""A migrated database of each kind, and rows with good defaults."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from records import migrate
from records.audit import LogSigner
from records.database import Database, make_engine
from records.keys import KeyRing
from tests.postgres import postgres_database

ORIGIN = "test.local/audit"


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    return KeyRing.from_folder(tmp_path_factory.mktemp("ring") / "keys", ORIGIN)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path, keys: KeyRing) -> Iterator[Database]:
    if request.param == "sqlite":
        yield from _opened(f"sqlite:///{tmp_path}/lethe.db", keys)
    else:
        with postgres_database() as url:
            yield from _opened(url, keys)


def _opened(url: str, keys: KeyRing) -> Iterator[Database]:
    database = Database(make_engine(url, pool_size=10), LogSigner(ORIGIN, keys.log))
    migrate.upgrade(database.engine)
    yield database
    database.dispose()
