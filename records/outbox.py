"""Messages that must not be lost between COMMIT and send.

The row is written in the transaction that makes the work; `relay` sends what is unsent, after the commit and again from
the sweeper. A message may go out twice: every receiver takes that.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import counters
from records.base import utc_now
from records.counters import Event
from records.database import Database
from records.rows import OutboxRow

HINT = "hint"  # {"model_id", "needs"}: this model has work for a worker that serves what it needs
BATCH = 100
Send = Callable[[str, dict[str, Any]], None]
KEEP_SENT = timedelta(days=1)


def post(session: Session, topic: str, body: dict[str, Any]) -> None:
    """Write a message beside the change that causes it. `body` holds ids only."""
    session.add(OutboxRow(topic=topic, body=body))


def relay(database: Database, send: Send) -> int:
    """Send every unsent hint, oldest first, and mark it. Returns how many went out.

    An exception of `send` (the broker is away) passes to the caller; what was sent stays marked.
    """
    with database.reading() as session:
        unsent = sa.select(OutboxRow).where(OutboxRow.topic == HINT, OutboxRow.sent_at.is_(None))
        unsent = unsent.order_by(OutboxRow.id).limit(BATCH)
        waiting = [(row.id, row.topic, row.body) for row in session.scalars(unsent)]
    for row_id, topic, body in waiting:
        counted(database, send, topic, body)
        with database.transaction() as session:
            session.execute(sa.update(OutboxRow).where(OutboxRow.id == row_id).values(sent_at=utc_now()))
            counters.add(session, Event.HINT_SENT)
    return len(waiting)


def counted(database: Database, send: Send, topic: str, body: dict[str, Any]) -> None:
    """Send a message; one that cannot be sent is counted, and the exception passes."""
    try:
        send(topic, body)
    except Exception:
        counters.count(database, Event.HINT_FAILED)
        raise


class Relay:
    """One sender in a process, so that a broker that hangs holds one thread and not each that has something to send."""

    def __init__(self, database: Database, send: Send) -> None:
        self._database, self._send = database, send
        self._busy, self._more = threading.Lock(), threading.Event()

    def __call__(self) -> None:
        """`relay`, or a note for the thread that is at it. What slips between its last look and its end, the sweeper
        sends."""
        self._more.set()
        if self._busy.acquire(blocking=False):
            try:
                while self._more.is_set():
                    self._more.clear()
                    relay(self._database, self._send)
            finally:
                self._busy.release()


def delete_sent(database: Database) -> int:
    """Delete the hints that went out more than a day ago; returns how many."""
    old = sa.delete(OutboxRow).where(OutboxRow.topic == HINT, OutboxRow.sent_at < utc_now() - KEEP_SENT)
    with database.transaction() as session:
        return len(session.scalars(old.returning(OutboxRow.id)).all())
