"""A throw-away database on a real PostgreSQL server, for tests that must know both databases.

Set LETHE_TEST_POSTGRES_URL, or have a server on 127.0.0.1:5432 that lets the user `postgres` in
(`docker run -p 5432:5432 -e POSTGRES_HOST_AUTH_METHOD=trust postgres:15`). Without one the tests skip and say so;
with CI=true they fail.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

URL = os.environ.get("LETHE_TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")


@contextmanager
def postgres_database() -> Iterator[str]:
    """The URL of a fresh database, dropped afterwards."""
    server = sa.create_engine(URL, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    name = f"lethe_test_{uuid.uuid4().hex[:12]}"
    try:
        with server.connect() as connection:
            connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    except sa.exc.OperationalError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("needs PostgreSQL: start one or set LETHE_TEST_POSTGRES_URL (see tests/postgres.py)")
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        server.dispose()
