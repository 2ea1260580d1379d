"""What the demo does where the gate asks for a person."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from lethe.demo import walk

LEFT = {"id": "req_1", "state": "needs_review", "outcome": None, "reason": "3 of 45 answers [to 15 items]"}
DONE = {"id": "req_1", "state": "completed", "outcome": "forgotten", "reason": None}


class Reviewing:
    """Of a client what a review needs."""

    def __init__(self) -> None:
        self.approved: list[str] = []

    def approve(self, request_id: str, reason: str) -> dict[str, Any]:
        self.approved.append(request_id)
        return DONE


def reviewed(request: dict[str, Any]) -> tuple[dict[str, Any], list[str], str]:
    client, to = Reviewing(), Console(file=StringIO(), width=200)
    found = walk._reviewed(client, request, to)  # type: ignore[arg-type]
    return found, client.approved, to.file.getvalue()  # type: ignore[attr-defined]


def test_what_is_left_to_a_person_is_said_and_approved() -> None:
    found, approved, said = reviewed(LEFT)
    assert (found, approved) == (DONE, ["req_1"])
    assert "left to a person: 3 of 45 answers [to 15 items]" in said


@pytest.mark.parametrize("state", ["completed", "rejected", "failed"])
def test_nothing_else_is_approved(state: str) -> None:
    request = DONE | {"state": state}
    assert reviewed(request) == (request, [], "")
