"""Messages that must not be lost between COMMIT and send.

The row is written in the transaction that makes the work; `relay` sends what is unsent, after the commit and again from
the sweeper. A message may go out twice: every receiver takes that.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records.base import utc_now
from records.database import Database
from records.rows import OutboxRow

HINT = "hint"  # {"model_id"}: this model has work
BATCH = 100


def post(session: Session, topic: str, body: dict[str, Any]) -> None:
    """Write a message beside the change that causes it. `body` holds ids only."""
    session.add(OutboxRow(topic=topic, body=body))


def relay(database: Database, send: Callable[[str, dict[str, Any]], None]) -> int:
    """Send every unsent message, oldest first, and mark it. Returns how many went out.

    An exception of `send` (the broker is away) passes to the caller; what was sent stays marked.
    """
    with database.reading() as session:
        unsent = sa.select(OutboxRow).where(OutboxRow.sent_at.is_(None)).order_by(OutboxRow.id).limit(BATCH)
        waiting = [(row.id, row.topic, row.body) for row in session.scalars(unsent)]
    for row_id, topic, body in waiting:
        send(topic, body)
        with database.transaction() as session:
            session.execute(sa.update(OutboxRow).where(OutboxRow.id == row_id).values(sent_at=utc_now()))
    return len(waiting)
