"""The tables of moves: complete, closed, and what the contract says."""

import pytest
from sqlalchemy.orm import Session

from records.moves import IllegalMove, move
from records.rows import JobRow, RequestRow
from records.states import (
    JOB_MOVES,
    REQUEST_MOVES,
    TERMINAL_JOB_STATES,
    TERMINAL_REQUEST_STATES,
    VERSION_MOVES,
    JobState,
    RequestState,
    VersionState,
)


@pytest.mark.parametrize(
    ("table", "states"), [(REQUEST_MOVES, RequestState), (JOB_MOVES, JobState), (VERSION_MOVES, VersionState)]
)
def test_every_state_has_a_row_and_every_target_exists(table, states) -> None:
    assert set(table) == set(states)
    assert {target for targets in table.values() for target in targets} <= set(states)


def test_terminal_states() -> None:
    assert set(TERMINAL_REQUEST_STATES) == {"completed", "failed", "cancelled", "rejected"}
    assert set(TERMINAL_JOB_STATES) == {"succeeded", "rejected", "failed", "cancelled"}


@pytest.mark.parametrize("state", sorted(TERMINAL_REQUEST_STATES))
@pytest.mark.parametrize("target", list(RequestState))
def test_nothing_leaves_a_terminal_state(state: RequestState, target: RequestState) -> None:
    with pytest.raises(IllegalMove, match=f"is {state} and cannot become {target}"):
        move(Session(), RequestRow(id="req_1", tenant_id="t", model_id="m", state=str(state)), target, "test")


def test_a_job_never_skips_running() -> None:
    job = JobRow(id="job_1", tenant_id="t", model_id="m", state="queued")
    with pytest.raises(IllegalMove):
        move(Session(), job, JobState.SUCCEEDED, "test")
    assert job.state == "queued"
