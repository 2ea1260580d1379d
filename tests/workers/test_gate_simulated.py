"""The gate on made-up people: never-trained ones pass as often as intended, partly unlearned ones never do."""

import pytest

from records.policy import Policy
from records.report import VerdictKind
from tests.workers.simulated_people import simulated
from workers.gate import decide

# Of 240 never-trained simulations (40 each of 1, 5, 20 people, with and without a reference) 232 were accepted and 8,
# of which 6 were about one person, sent to a person; none was rejected.
SEEDS = range(12)


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize(("people", "least"), [(1, 9), (5, 11)])
def test_never_trained_people_pass(people, least, reference):
    verdicts = [decide(simulated(seed, people, reference=reference), Policy()).kind for seed in SEEDS]
    assert verdicts.count(VerdictKind.ACCEPTED) >= least
    assert VerdictKind.REJECTED not in verdicts


def test_twenty_never_trained_people_pass():
    assert all(decide(simulated(seed, 20), Policy()).kind is VerdictKind.ACCEPTED for seed in range(3))


@pytest.mark.parametrize("left", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("people", [1, 5])
def test_rows_left_whole_are_found(people, left):
    for seed in range(5):
        verdict = decide(simulated(seed, people, left=left, reference=seed % 2 == 0), Policy())
        assert verdict.kind is VerdictKind.REJECTED
        assert verdict.failure == "forgetting"


@pytest.mark.parametrize("seed", range(6))
def test_more_leakage_never_turns_a_rejection_into_an_acceptance(seed):
    # The rows left at a smaller share are among those left at a larger one, everything else is the same.
    kinds = [decide(simulated(seed, 1 + seed % 3, left=left), Policy()).kind for left in (0.0, 0.1, 0.2, 0.5, 1.0)]
    first = next((at for at, kind in enumerate(kinds) if kind is VerdictKind.REJECTED), len(kinds))
    assert VerdictKind.ACCEPTED not in kinds[first:]
    assert kinds[-1] is VerdictKind.REJECTED


def test_later_attempts_are_judged_more_strictly():
    # One person: the second attempt's bounds are farther out, on the same numbers.
    report = simulated(0, 1)
    highs = [
        next(one.high for one in decide(report, Policy(), attempt).checks if one.name.startswith("token_probability"))
        for attempt in (1, 2, 3)
    ]
    assert highs == sorted(highs)
    assert highs[0] < highs[2]
    with pytest.raises(ValueError, match="attempt"):
        decide(report, Policy(), 4)
