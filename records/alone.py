"""One process at a time: an advisory lock of Postgres for as long as a block runs. With SQLite one process is all."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from records.database import Database

SWEEP = 0x4C455357  # any fixed number that no other lock of this package has
LONGEST_BLOCK = "15s"  # a worker that freezes in here keeps every sweeper from waking others


@contextmanager
def alone(database: Database, lock: int) -> Iterator[bool]:
    """Yields whether this process has the lock; it goes with the block, or with the connection.

    A process that is frozen inside loses it after LONGEST_BLOCK: the server ends its idle transaction. So what runs
    inside must do no harm twice.
    """
    if database.engine.dialect.name != "postgresql":
        yield True
        return
    with database.engine.connect() as connection:
        connection.execute(sa.text(f"SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_BLOCK}'"))
        got = bool(connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(lock))))
        try:
            yield got
        finally:
            _let_go(connection)


def _let_go(connection: sa.Connection) -> None:
    """The lock may be gone already, and its connection with it."""
    try:
        connection.rollback()
    except sa.exc.DBAPIError:
        connection.invalidate()
