"""Engines and transactions. The only place that commits.

    database = Database(make_engine(url), signer)
    with database.transaction() as session: ...    # commits at the end, rolls back on any exception
    with database.reading() as session: ...        # never writes

A transaction that recorded audit events appends them to the Merkle log as its very last act and signs the new tree
head with it. So every committed state has a signed head, and the log's lock is always taken last (no deadlock).
"""

import sqlite3
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session

from records import audit
from records.errors import Invalid

READS_ONLY = "lethe_reads_only"
SQLITE_SECONDS = 30.0  # how long one connection waits for another's lock
WAL_PAUSE_SECONDS = 0.01
EMPTY_WAL_SECONDS = 0.2  # writers wait for as long
LONGEST_PAUSE = "30s"  # between two statements of a transaction that writes
DatabaseTrouble = sa.exc.SQLAlchemyError  # what callers outside this package may catch


def is_away(error: BaseException) -> bool:
    """Whether the server could not be reached, went away or was too busy, as opposed to refusing what it was asked.

    SQLite says OperationalError of a statement that is wrong, too, such as one about a table that is not there.
    """
    if getattr(getattr(error, "orig", None), "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
        return False
    if getattr(error, "connection_invalidated", False):  # the server ended it, as it does after LONGEST_PAUSE
        return True
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.TimeoutError)


def refuses(error: BaseException) -> bool:
    """Whether the server did not understand: a table or a connection option that it does not know."""
    return isinstance(error, sa.exc.OperationalError | sa.exc.ProgrammingError) and not is_away(error)


class database_seconds(sa.sql.functions.GenericFunction[float]):  # noqa: N801 - a SQL function, named as one
    """Seconds since the epoch by the database's own clock: leases never compare two machines' clocks."""

    type = sa.Float()
    inherit_cache = True


def ahead_seconds(session: Session) -> float:
    """The database's clock minus this host's."""
    before = time.time()
    theirs = session.scalar(sa.select(database_seconds())) or 0.0
    return theirs - (before + time.time()) / 2


class epoch_seconds(sa.sql.functions.GenericFunction[float]):  # noqa: N801 - a SQL function, named as one
    """A stored time as seconds since the epoch, so that two of them can be subtracted in SQL."""

    type = sa.Float()
    inherit_cache = True


@compiles(epoch_seconds, "sqlite")
def _sqlite_epoch(element: epoch_seconds, compiler: Any, **options: Any) -> str:
    return f"((julianday({compiler.process(element.clauses, **options)}) - 2440587.5) * 86400.0)"


@compiles(epoch_seconds, "postgresql")
def _postgres_epoch(element: epoch_seconds, compiler: Any, **options: Any) -> str:
    return f"CAST(extract(epoch FROM {compiler.process(element.clauses, **options)}) AS double precision)"


@compiles(database_seconds, "sqlite")
def _sqlite_seconds(_element: object, _compiler: object, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_seconds, "postgresql")
def _postgres_seconds(_element: object, _compiler: object, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


def make_engine(url: str, pool_size: int = 40, connect_seconds: int | None = None) -> sa.Engine:
    """One engine a process. SQLite gets WAL, full sync, foreign keys, zeros over what is deleted (however it was
    compiled: a key that was destroyed must be gone), and transactions that take the write lock up front (a later
    upgrade would fail with SQLITE_BUSY, which no time-out helps). No exception's text holds a value.

    A server that does not answer is waited for as long as the driver does, or for `connect_seconds`. Raises Invalid
    for a URL that is none, without it: it may hold a password.
    """
    if not url.startswith("sqlite"):
        options: dict[str, Any] = {"connect_timeout": connect_seconds} if connect_seconds else {}
        pool: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 0, "pool_pre_ping": True}
        engine = _engine(url, connect_args=options, **pool)
        event.listen(engine, "do_connect", _trust_the_hosts_authorities)
        event.listen(engine, "begin", _begin_postgres)
        return engine
    options = {"timeout": SQLITE_SECONDS, "check_same_thread": False}
    engine = _engine(url, connect_args=options)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _engine(url: str, **options: Any) -> sa.Engine:
    try:
        return sa.create_engine(url, hide_parameters=True, **options)
    except (sa.exc.ArgumentError, ImportError, ValueError):  # no URL, no such driver, no such port
        raise Invalid(
            "LETHE_DATABASE_URL must be a postgresql+psycopg://USER@HOST:PORT/NAME URL, or empty for SQLite in the "
            "data folder."
        ) from None


def _trust_the_hosts_authorities(_dialect: object, _record: object, _given: object, named: dict[str, Any]) -> None:
    """libpq's `sslrootcert=system` are the authorities of its own OpenSSL, and that of psycopg's wheels looks for them
    in a folder that no host has. Python's are the host's. With `system` libpq checks the host's name too, and refuses
    to do less: a file alone would not.
    """
    found = ssl.get_default_verify_paths().cafile
    full = named.get("sslmode", "verify-full") == "verify-full"
    if named.get("sslrootcert") == "system" and full and found is not None:
        named |= {"sslrootcert": found, "sslmode": "verify-full"}


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # pysqlite's own BEGIN is off: _begin_sqlite says which kind we want
    connection.execute(_busy_timeout(SQLITE_SECONDS))
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")
    _turn_to_wal(connection)


def _busy_timeout(seconds: float) -> str:
    return f"PRAGMA busy_timeout={int(seconds * 1000)}"


def _turn_to_wal(connection: Any) -> None:
    """Two who open a new file at once both want to turn it to WAL, and SQLite refuses one of them without waiting."""
    until = time.monotonic() + SQLITE_SECONDS
    while not _is_wal(connection, time.monotonic() > until):
        time.sleep(WAL_PAUSE_SECONDS)


def _is_wal(connection: Any, last_try: bool) -> bool:
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or last_try:
            raise
        return False
    return True


def _begin_sqlite(connection: sa.Connection) -> None:
    reads_only = connection.get_execution_options().get(READS_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _begin_postgres(connection: sa.Connection) -> None:
    """A process that freezes while it writes would keep from everybody what it has locked, were it the audit log: the
    server ends its transaction. A reader locks nothing, and may look at weights for hours.
    """
    if not connection.get_execution_options().get(READS_ONLY, False):
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_PAUSE}'")


class Database:
    """An engine and the key that signs the audit log's head."""

    def __init__(self, engine: sa.Engine, signer: audit.LogSigner) -> None:
        self.engine = engine
        self.signer = signer
        # SQLite's readers see one moment by themselves; PostgreSQL's would see another with each statement.
        moment = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
        self._reader = engine.execution_options(**{READS_ONLY: True}, **moment)
        self.may_hold_destroyed = True  # in SQLite's log; a process before this one may have left it

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One short unit of work; commits at the end, after appending its audit events and signing the head."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session
            session.flush()
            audit.append_pending(session, self.signer)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A consistent read: all of it is of the moment of its first statement. Anything written is rolled back."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session  # closing rolls back and leaves what was read readable

    def drop_destroyed(self) -> None:
        """Empty SQLite's log if it may hold what was destroyed since the last time. Somebody who reads an earlier state
        stands in the way: then it is left for the next time. PostgreSQL does it in its own time.
        """
        if self.may_hold_destroyed and self.engine.dialect.name == "sqlite":
            self.may_hold_destroyed = False  # before the work: what a thread destroys meanwhile is for the next time
            emptied = False
            try:
                emptied = self._empty_wal()
            finally:
                if not emptied:
                    self.may_hold_destroyed = True

    def _empty_wal(self) -> bool:
        """Bring every page of the log into the file, with zeros over what was deleted, and cut the log off."""
        connection = self.engine.raw_connection()  # outside of a transaction
        cursor = connection.cursor()
        try:
            cursor.execute(_busy_timeout(EMPTY_WAL_SECONDS))
            return not cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            cursor.execute(_busy_timeout(SQLITE_SECONDS))
            connection.close()

    def dispose(self) -> None:
        self.engine.dispose()
