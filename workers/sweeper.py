"""Repeats what a lost message or a dead process left undone: unsent messages, jobs that nobody holds, sealed files
whose keys are destroyed.

Sweeping twice, or from two processes, does no harm: hints are hints, and a claim is decided in the database.
"""

import threading
from collections.abc import Callable
from typing import Any

import structlog
from kombu.exceptions import OperationalError as BrokerAway

from records import jobs, outbox
from records.database import Database, DatabaseTrouble
from records.outbox import HINT
from records.retention import delete_spent
from records.store import Store

log = structlog.get_logger()
Send = Callable[[str, dict[str, Any]], None]


def sweep(database: Database, send: Send) -> int:
    """Send what the outbox holds, and a hint for every model with work that nobody holds. Returns how many went out.

    Raises what `send` raises when the broker is away.
    """
    sent = outbox.relay(database, send)
    with database.reading() as session:
        waiting = jobs.claimable_models(session)
    for model_id in waiting:
        send(HINT, {"model_id": model_id})
    return sent + len(waiting)


class Sweeper:
    """Sweeps every `sweep_seconds` in a thread of its own until stopped."""

    def __init__(self, database: Database, store: Store, send: Send, sweep_seconds: float) -> None:
        self._database = database
        self._store = store
        self._send = send
        self._sweep_seconds = sweep_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        self._stop.set()
        self._thread.join(timeout_seconds)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                delete_spent(self._database, self._store)
                sweep(self._database, self._send)
            except (DatabaseTrouble, BrokerAway, OSError) as error:  # away for a moment: the next sweep tries again
                log.warning("sweep.failed", error=type(error).__name__)
            self._stop.wait(self._sweep_seconds)
