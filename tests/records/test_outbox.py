"""Messages survive the moment between COMMIT and send."""

import pytest

from records import outbox
from records.database import Database
from records.outbox import HINT


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
