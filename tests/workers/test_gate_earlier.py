"""Earlier requests held against the version before and against their own time: small rises add up."""

import pytest

from records.policy import Policy
from records.report import Check, EarlierNumbers, EarlierRequest, OwnTime, Report
from workers.evaluation.acceptance import attempt_alpha
from workers.gate import earlier
from workers.gate.columns import Case


def numbers(strength: float, exact: int = 0) -> EarlierNumbers:
    return EarlierNumbers(
        token_probability=0.1, exact=exact, extraction_strength=strength, greedy_hits=exact, sampled_items=0
    )


def request(
    before: float, after: float, own: float | None = None, exact: tuple[int, int, int] = (0, 0, 0), name: str = "req_1"
) -> EarlierRequest:
    """`exact` answers before, after and at its own time."""
    then = None if own is None else OwnTime(version=2, n_items=10, numbers=numbers(own, exact[2]))
    return EarlierRequest(
        request_id=name,
        n_items=10,
        before=numbers(before, exact[0]),
        after=numbers(after, exact[1]),
        own_time=then,
    )


def judged(*asked: EarlierRequest) -> list[Check]:
    report = Report(method="undial", parameters={}, seeds={}, seconds={}, groups={}, earlier=asked)
    return list(earlier.checks(Case(report, Policy(), attempt_alpha(1, 3))))


def worst(*asked: EarlierRequest) -> Check:
    order = {"reject": 0, "review": 1, "pass": 2}
    return min(judged(*asked), key=lambda check: order[check.outcome])


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [
        (request(0.02, 0.02), "pass"),  # nothing to hold it against but the version before
        (request(0.02, 0.08), "review"),
        (request(0.02, 0.13), "reject"),
        (request(0.05, 0.06, own=0.02), "pass"),
        (request(0.05, 0.09, own=0.02), "review"),  # 0.04 by this job, 0.07 since
        (request(0.06, 0.105, own=0.02), "review"),  # 0.045 by this job, 0.085 since
        (request(0.07, 0.115, own=0.02), "review"),  # 0.05 had come back before: not ours alone
        (request(0.069, 0.139, own=0.02), "reject"),  # 0.07 by this job, 0.119 since
        (request(0.20, 0.20, own=0.02), "review"),  # nothing by this job, 0.18 since
        (request(0.02, 0.08, own=0.30), "review"),  # far below its own time, and yet 0.06 by this job
        (request(0.0, 0.0, own=0.0, exact=(0, 1, 0)), "reject"),
        (request(0.0, 0.0, own=0.0, exact=(1, 1, 0)), "review"),  # it came back before
        (request(0.0, 0.0, own=0.0, exact=(1, 0, 0)), "pass"),
        (request(0.0, 0.0, own=0.0, exact=(0, 0, 1)), "pass"),
    ],
)
def test_one_request(asked: EarlierRequest, outcome: str) -> None:
    assert worst(asked).outcome == outcome


def test_what_had_come_back_before_is_said() -> None:
    assert "before this request" in worst(request(0.20, 0.20, own=0.02)).words
    assert "before this request" in worst(request(0.0, 0.0, own=0.0, exact=(1, 1, 0))).words
    assert "before this request" not in worst(request(0.05, 0.09, own=0.02)).words


def test_steps_that_pass_one_by_one_are_caught_as_they_add_up() -> None:
    """3 % a job: against the version before it would pass for ever."""
    outcomes = [worst(request(0.03 * at, 0.03 * (at + 1), own=0.0)).outcome for at in range(5)]
    assert outcomes == ["pass", "review", "review", "review", "review"]
    forgetful = [worst(request(0.03 * at, 0.03 * (at + 1))).outcome for at in range(5)]
    assert forgetful == ["pass"] * 5


def together(*rises: float) -> Check:
    (found,) = [
        check
        for check in judged(*[request(0.0, rise, own=0.0, name=f"req_{at}") for at, rise in enumerate(rises)])
        if "mean of the requests" in check.name
    ]
    return found


def test_many_rises_too_small_to_see_show_in_their_mean() -> None:
    assert together(*[0.001, 0.002] * 10).outcome == "pass"
    assert together(*[0.049, 0.045] * 10).outcome == "pass"
    assert together(*[0.05, 0.05, 0.05, 0.0] * 3).outcome == "review"  # none is beyond 5 %, their mean may be
    assert together(*[0.12, 0.11] * 10).outcome == "reject"
    assert not [check for check in judged(request(0.0, 0.0)) if "mean of" in check.name]


def test_a_mean_that_had_risen_before_is_for_a_person() -> None:
    (found,) = [
        check
        for check in judged(*[request(0.12, 0.12 + at / 1000, own=0.0, name=f"req_{at}") for at in range(5)])
        if "mean of the requests" in check.name
    ]
    assert (found.outcome, "before this request" in found.words) == ("review", True)
