"""Messages survive the moment between COMMIT and send."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from records import outbox
from records.base import utc_now
from records.database import Database
from records.outbox import HINT, Relay
from records.rows import OutboxRow


class Broker:
    def __init__(self) -> None:
        self.sent: list[str] = []
        self.up = True

    def send(self, topic: str, body: dict[str, str]) -> None:
        if not self.up:
            raise ConnectionError("away")
        self.sent.append(body["model_id"])


def post(database: Database, model_id: str) -> None:
    with database.transaction() as session:
        outbox.post(session, HINT, {"model_id": model_id})


def test_each_message_goes_out_once_and_in_order(database: Database) -> None:
    broker = Broker()
    for name in ("a", "b", "c"):
        post(database, name)
    assert outbox.relay(database, broker.send) == 3
    assert outbox.relay(database, broker.send) == 0
    assert broker.sent == ["a", "b", "c"]


def test_a_message_waits_while_the_broker_is_away(database: Database) -> None:
    broker = Broker()
    broker.up = False
    post(database, "a")
    with pytest.raises(ConnectionError):
        outbox.relay(database, broker.send)
    broker.up = True
    assert outbox.relay(database, broker.send) == 1


def test_a_rolled_back_change_sends_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as session:  # noqa: PT012 - the block is the transaction
        outbox.post(session, HINT, {"model_id": "a"})
        raise RuntimeError
    assert outbox.relay(database, Broker().send) == 0


def test_a_broker_that_hangs_holds_one_sender_and_what_comes_meanwhile_goes_out_after(database: Database) -> None:
    sent: list[str] = []
    hangs, answers = threading.Event(), threading.Event()

    def send(_topic: str, body: dict[str, str]) -> None:
        hangs.set()
        answers.wait(30)
        sent.append(body["model_id"])

    relay = Relay(database, send)
    post(database, "a")
    held = threading.Thread(target=relay)
    held.start()
    assert hangs.wait(30)
    post(database, "b")
    relay()  # comes back although the broker hangs
    assert sent == []
    answers.set()
    held.join(30)
    assert sent == ["a", "b"]


def test_another_topic_is_left_to_whoever_sends_it(database: Database) -> None:
    with database.transaction() as session:
        outbox.post(session, "letter", {"to": "somebody"})
    assert outbox.relay(database, Broker().send) == 0


def test_hints_that_went_out_are_deleted_after_a_day(database: Database) -> None:
    for name in ("old", "new"):
        post(database, name)
    outbox.relay(database, Broker().send)
    post(database, "unsent")
    with database.transaction() as session:
        old = session.scalars(sa.select(OutboxRow).order_by(OutboxRow.id)).first()
        assert old is not None
        old.sent_at = utc_now() - timedelta(days=2)
    assert outbox.delete_sent(database) == 1
    with database.reading() as session:
        assert [row.body["model_id"] for row in session.scalars(sa.select(OutboxRow).order_by(OutboxRow.id))] == [
            "new",
            "unsent",
        ]
