"""Whether this process can do its work. The broker is not asked: requests are taken in without it."""

from collections.abc import Callable

import structlog

from records import queries
from records.parts import Parts
from records.store import Store
from service.health.schemas import CheckName, Ready


def readiness(parts: Parts, worker_alive: Callable[[], bool] | None) -> Ready:
    """Database answers, schema has what this code needs, store takes writes, worker thread (if one runs here) lives."""
    checks: dict[CheckName, Callable[[], bool]] = {
        "database": lambda: _database_answers(parts),
        "schema": lambda: _schema_will_do(parts),
        "store": lambda: _store_takes_writes(parts.store),
    }
    if worker_alive is not None:
        checks["worker"] = worker_alive
    found: dict[CheckName, str] = {name: _outcome(name, check) for name, check in checks.items()}
    return Ready(status="ready" if set(found.values()) == {"ok"} else "not_ready", checks=found)


def _schema_will_do(parts: Parts) -> bool:
    from records import migrate  # alembic would cost every start 0.3 s

    return not migrate.is_behind(parts.database.engine)


def _outcome(name: str, check: Callable[[], bool]) -> str:
    try:
        return "ok" if check() else "failed"
    except Exception as error:  # noqa: BLE001 - whatever a broken part raises, the answer is that it is broken
        structlog.get_logger("lethe.health").warning("check failed", check=name, error=type(error).__name__)
        return "failed"


def _database_answers(parts: Parts) -> bool:
    with parts.database.reading() as session:
        queries.ping(session)
    return True


def _store_takes_writes(store: Store) -> bool:
    store.check()
    return True
