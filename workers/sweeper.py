"""Repeats what a lost message or a dead process left undone: unsent messages, jobs that nobody holds, sealed files
whose keys are destroyed.

Every worker sweeps, and so may a process of its own; on Postgres one acts at a time, and when it dies the next one
does. Sweeping twice does no harm either: hints are hints, and a claim is decided in the database.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from records import counters, dispatch, erasures, idempotency, outbox, rotation, spreads, uploads, webhooks
from records.alone import SWEEP, alone
from records.counters import Event
from records.database import Database, DatabaseTrouble, ahead_seconds
from records.expiry import expire
from records.garbage import Collector
from records.outbox import HINT, Send
from records.parts import Parts
from records.queue import hints_waiting
from records.retention import delete_spent
from workers.courier import Courier

log = structlog.get_logger()
Waiting = Callable[[str], int]
HOUR = 3600.0
LONGEST_WRITE_SECONDS = 24 * HOUR
MOST_SKEW_SECONDS = 300.0  # far less than anything is kept
STUCK_SECONDS = HOUR  # a store that is away, or a new master key for all rows, takes minutes


@dataclass(frozen=True)
class Chore:
    """Something to do again and again. It may be done twice at once, and may raise: the next sweep tries again.

    `by_date`: it deletes what is old. While this host's clock is wrong it is not done: all that is young would go.
    """

    name: str
    run: Callable[[], object]
    every_seconds: float = 0.0
    by_date: bool = False


def chores_of(parts: Parts) -> tuple[Chore, ...]:
    """What there is to do for a Lethe. Each is short: together they hold the sweepers' lock."""
    database = parts.database
    keep = timedelta(days=parts.settings.limits.idempotency_days)
    return (
        Chore("relay", lambda: outbox.relay(database, parts.send)),
        Chore("hints", lambda: send_hints(database, parts.send, lambda needs: hints_waiting(parts.queue, needs))),
        Chore("erasures", lambda: erasures.keep_up(database, parts.store)),
        Chore("spent_files", lambda: delete_spent(database, parts.store)),
        Chore("idempotency_keys", lambda: idempotency.delete_old(database, keep), HOUR, by_date=True),
        Chore("webhooks", Courier(parts).wake),
        Chore("old_deliveries", lambda: _forget_deliveries(parts), HOUR, by_date=True),
        Chore("broken_writes", lambda: parts.store.sweep_temporary(LONGEST_WRITE_SECONDS), HOUR, by_date=True),
        Chore(
            "old_masters",
            lambda: rotation.finish(database, parts.settings.place.folder / "keys", parts.keys),
            HOUR,
            by_date=True,
        ),
        Chore("spreads", lambda: spreads.settle(database), HOUR, by_date=True),
        Chore("expiry", lambda: expire(database, parts.store, parts.settings.retention), 60.0, by_date=True),
        Chore(
            "orphans", Collector(database, parts.store, parts.settings.retention.orphan_hours * HOUR).step, by_date=True
        ),
        Chore("old_uploads", lambda: uploads.end_expired(database), HOUR, by_date=True),
        Chore("sent_hints", lambda: outbox.delete_sent(database), HOUR, by_date=True),
    )


def _forget_deliveries(parts: Parts) -> None:
    with parts.database.transaction() as session:
        webhooks.delete_old(session, timedelta(days=parts.settings.webhooks.webhook_keep_days))


def send_hints(database: Database, send: Send, waiting: Waiting) -> int:
    """A hint for every model with work that nobody holds, most urgent first; returns how many went out.

    `waiting` says how many hints of a kind no worker has taken yet. There are never more of them than such models:
    while all workers are busy for hours, nothing piles up. Raises what `send` raises when the broker is away.
    """
    with database.reading() as session:
        found = dispatch.claimable(session)
    room = {needs: count - waiting(needs) for needs, count in Counter(needs for _, needs in found).items()}
    sent = 0
    for model_id, needs in found:
        if room[needs] > 0:
            outbox.counted(database, send, HINT, {"model_id": model_id, "needs": needs})
            room[needs] -= 1
            sent += 1
    if sent:
        counters.count(database, Event.HINT_REPEATED, sent)
    return sent


class Sweeper:
    """Does its chores every `sweep_seconds` in a thread of its own until stopped."""

    def __init__(
        self, database: Database, chores: Sequence[Chore], sweep_seconds: float, alive: Path | None = None
    ) -> None:
        """`alive` is a file that is touched every `sweep_seconds`, however long a sweep takes: whoever looks at its age
        ends only a process that is frozen, whose sweeper has ended, or one sweep of which takes STUCK_SECONDS.
        """
        self._database = database
        self._chores = chores
        self._sweep_seconds = sweep_seconds
        self._alive = alive
        self._due = {chore.name: 0.0 for chore in chores}
        self._clock_was_right = True
        self._stop = threading.Event()
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if self._alive is not None:
            threading.Thread(target=self._show_life, args=(self._alive,), name="alive", daemon=True).start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        self._stop.set()
        self._thread.join(timeout_seconds)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def sweep(self) -> bool:
        """Do what is due, unless another process is at it; whether it was ours to do."""
        with alone(self._database, SWEEP) as ours:
            for chore in self._take_due() if ours else ():
                self._do(chore)
        return ours

    def _take_due(self) -> list[Chore]:
        now, right = time.monotonic(), self._clock_is_right()
        due = [chore for chore in self._chores if now >= self._due[chore.name] and (right or not chore.by_date)]
        self._due.update({chore.name: now + chore.every_seconds for chore in due})
        return due

    def _clock_is_right(self) -> bool:
        """By the database's; where it is on this host too, always. Told when it turns."""
        with self._database.reading() as session:
            ahead = ahead_seconds(session)
        right = abs(ahead) <= MOST_SKEW_SECONDS
        if right != self._clock_was_right:
            tell = log.info if right else log.error
            tell("sweep.clock_is_right" if right else "sweep.clock_is_wrong", database_ahead_seconds=round(ahead))
        self._clock_was_right = right
        return right

    def _do(self, chore: Chore) -> None:
        try:
            chore.run()
        except Exception as error:  # noqa: BLE001 - one chore that fails must not keep the others from being done
            log.warning("sweep.failed", chore=chore.name, error=type(error).__name__)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._busy_since = time.monotonic()
            try:
                self.sweep()
            except DatabaseTrouble as error:  # away for a moment: the next sweep tries again
                log.warning("sweep.failed", chore="lock", error=type(error).__name__)
            self._busy_since = None
            self._stop.wait(self._sweep_seconds)

    def _show_life(self, alive: Path) -> None:
        """In a thread of its own: who is taken for dead in a long sweep would be ended with the job that it watches."""
        while self._thread.is_alive() and not self._stop.is_set():
            since = self._busy_since
            if since is None or time.monotonic() - since < STUCK_SECONDS:
                alive.touch()
            self._stop.wait(self._sweep_seconds)
