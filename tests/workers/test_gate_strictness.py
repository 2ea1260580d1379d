"""What is asked more strictly never lets more through: a later attempt, a tenant's lower significance."""

from itertools import product

import numpy as np
import pytest

from records.policy import Policy, tightened
from records.report import GroupName, Report
from tests.workers.simulated_people import group, people, simulated
from workers.gate import decide

TELLING = {"membership_told": "review", "undecided": "accept"}
POLICIES = [tightened(Policy(), {**TELLING, "significance": one}) for one in (0.05, 0.01, 1e-4, 1e-9)]


def with_canary(report: Report, bits: float) -> Report:
    """The first forget row is a canary with so many bits left."""
    forget = report.groups[GroupName.FORGET]
    first, *others = forget.items
    canary = first.model_copy(update={"after": first.after.model_copy(update={"exposure": bits})})
    return report.model_copy(update={"groups": {**report.groups, GroupName.FORGET: group([canary, *others])}})


def silenced(report: Report) -> Report:
    """No forget row is given a chance any more."""
    forget = report.groups[GroupName.FORGET]
    quiet = {"token_probability": 0.002, "nll": 6.0, "token_accuracy": 0.0}
    rows = [row.model_copy(update={"after": row.after.model_copy(update=quiet)}) for row in forget.items]
    return report.model_copy(update={"groups": {**report.groups, GroupName.FORGET: group(rows)}})


def candidates() -> list[Report]:
    left = [simulated(seed, count, left=share) for seed, count, share in product((1, 2), (1, 5), (0.0, 0.1, 0.3))]
    many = simulated(3, 20, left=0.02, control=40)
    neighbours = people(20, 10, np.random.default_rng(4), taught=True, left=0.97)
    damaged = many.model_copy(update={"groups": {**many.groups, GroupName.NEIGHBOURS: neighbours}})
    plain = simulated(5, 5)
    return [*left, many, damaged, silenced(plain), *(with_canary(plain, bits) for bits in (5.0, 6.0))]


@pytest.mark.parametrize("report", candidates(), ids=lambda _: "candidate")
def test_no_check_passes_later_that_did_not_before(report: Report) -> None:
    for policy in POLICIES:
        outcomes = [{one.name: one.outcome for one in decide(report, policy, attempt).checks} for attempt in (1, 2, 3)]
        for name, outcome in outcomes[0].items():
            assert outcome == "pass" or "pass" not in {later[name] for later in outcomes[1:]}, (policy, name)


@pytest.mark.parametrize("report", candidates(), ids=lambda _: "candidate")
def test_a_lower_significance_passes_nothing_more(report: Report) -> None:
    loose, *strict = [{one.name: one.outcome for one in decide(report, policy).checks} for policy in POLICIES]
    assert not [name for name, outcome in loose.items() for one in strict if outcome != "pass" == one[name]]


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_a_canary_that_stands_out_is_found_in_every_attempt(attempt: int) -> None:
    assert decide(with_canary(simulated(5, 5), 6.0), Policy(), attempt).kind == "rejected"
    assert decide(with_canary(simulated(5, 5), 4.0), Policy(), attempt).kind == "accepted"


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_a_silence_is_found_in_every_attempt(attempt: int) -> None:
    checks = decide(silenced(simulated(5, 5)), Policy(), attempt).checks
    assert {one.outcome for one in checks if one.name == "over-forgotten"} == {"review"}


def test_a_gap_of_nothing_is_a_threshold_too() -> None:
    assert decide(simulated(5, 5), tightened(Policy(), {"memorised_gap": 0.0})).kind == "accepted"
