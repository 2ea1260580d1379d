import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed
from workers.evaluation.equivalence import clustered_error, equivalence, non_inferiority, units_needed


def test_error_of_clusters_by_hand():
    # Mean 2; subject sums of d - 2 are -2 and 2: SE² = 2·(4 + 4)/16 = 1.
    assert clustered_error([1, 1, 3, 3], [0, 0, 1, 1]) == pytest.approx((2.0, 1.0, 2))
    # One item each: the textbook s/√n, s² = 5/3, n = 4.
    assert clustered_error([1, 2, 3, 4], [0, 1, 2, 3]) == pytest.approx((2.5, (5 / 12) ** 0.5, 4))


def test_bounds_by_hand():
    found = non_inferiority([0.1, 0.2, 0.3], [0, 1, 2], 0.05)
    # SE = 0.1/√3, t_2(0.95) = 2.919986.
    assert (found.low, found.high) == pytest.approx((0.2 - 2.919986 * 0.1 / 3**0.5, 0.2 + 2.919986 * 0.1 / 3**0.5))
    assert found.outcome == "pass"
    # p: t = 0.25·√3/0.1 = 4.330, two degrees: ½ - t/(2√(2 + t²)) = 0.024697.
    t = 0.25 * 3**0.5 / 0.1
    assert found.p_value == pytest.approx(0.5 - t / (2 * (2 + t * t) ** 0.5))


def test_each_outcome():
    whom, noise = np.arange(40), 0.01 * np.where(np.arange(40) % 2, 1, -1)
    assert non_inferiority(noise, whom, 0.02).outcome == "pass"
    assert non_inferiority(noise - 0.05, whom, 0.02).outcome == "fail"
    assert non_inferiority(noise + 0.5, whom, 0.02).outcome == "pass"
    assert equivalence(noise, whom, 0.02).outcome == "pass"
    assert equivalence(noise + 0.5, whom, 0.02).outcome == "fail"
    wide = non_inferiority(10 * noise, whom, 0.02)
    assert wide.outcome == "undecided"
    assert wide.needed > 40
    assert wide.words == f"too few to decide: 40 were measured, about {wide.needed} are needed"


def test_no_spread_is_not_certainty():
    # Five subjects without a change leave room for 1 - 0.05^(1/5) = 0.451; margin 0.02 wants ln 0.05 / ln 0.98 = 149.
    few = non_inferiority([0.0] * 5, range(5), 0.02)
    assert (few.outcome, few.needed) == ("undecided", 149)
    assert few.p_value == pytest.approx(0.98**5)
    assert few.low == pytest.approx(-(1 - 0.05**0.2))
    assert non_inferiority([0.0] * 148, range(148), 0.02).outcome == "undecided"
    assert non_inferiority([0.0] * 149, range(149), 0.02).outcome == "pass"
    assert non_inferiority([-1.0] * 149, range(149), 0.02).p_value == 1.0


def test_units_needed():
    # (1.644854 + 0.841621)² / 0.05² = 2473.02, + 1.644854²/2 = 1.35; at 0.5: 24.73 + 1.35.
    assert (units_needed(1.0, 0.05), units_needed(1.0, 0.5)) == (2475, 27)
    # Equivalence spends z_{0.9} = 1.281552: 2.926405² / 0.05² = 3425.54, + 1.35.
    assert units_needed(1.0, 0.05, two_sided=True) == 3427
    rng = np.random.default_rng(0)
    n = units_needed(1.0, 0.5)
    passed = sum(non_inferiority(rng.normal(size=n), range(n), 0.5).outcome == "pass" for _ in range(1000))
    assert 770 < passed < 850


@pytest.mark.parametrize(("test", "shift"), [(non_inferiority, -0.1), (equivalence, -0.1), (equivalence, 0.1)])
def test_harm_at_the_margin_passes_seldom(test, shift):
    passed = 0
    whom = np.repeat(np.arange(12), 5)
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        changes = shift + 0.05 * rng.normal(size=12)[whom] + 0.05 * rng.normal(size=60)
        passed += test(changes, whom, 0.1).outcome == "pass"
    assert 10 < passed <= allowed(1000, 0.05)


def test_refusals():
    with pytest.raises(ValueError, match="margin"):
        non_inferiority([0.0, 1.0], [0, 1], 0.0)
    with pytest.raises(ValueError, match="two subjects"):
        equivalence([0.0, 1.0], [0, 0], 0.1)
