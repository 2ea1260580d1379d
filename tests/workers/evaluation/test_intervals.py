import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.evaluation.never_trained import allowed
from workers.evaluation.intervals import binomial_tail, clopper_pearson, dealt_tail, exact_tail, wilson


def test_wilson_by_hand():
    # 0 of n: upper end is z² / (n + z²) = 3.8415 / 13.8415.
    low, high = wilson(0, 10)
    assert low == 0.0
    assert high == pytest.approx(3.841459 / 13.841459, abs=1e-6)


def test_clopper_pearson_by_hand():
    # 0 of n: (1 - p)^n = 0.025, so p = 1 - 0.025^(1/n). With all hits the mirror image.
    assert clopper_pearson(0, 300) == pytest.approx((0.0, 1 - 0.025 ** (1 / 300)))
    assert clopper_pearson(10, 10) == pytest.approx((0.025 ** (1 / 10), 1.0))
    # The textbook case 5 of 10.
    assert clopper_pearson(5, 10) == pytest.approx((0.18709, 0.81291), abs=1e-5)


def test_binomial_tail_by_hand():
    assert binomial_tail(2, 3, 0.5) == pytest.approx(4 / 8)
    assert binomial_tail(1, 10, 0.1) == pytest.approx(1 - 0.9**10)
    assert (binomial_tail(0, 5, 0.0), binomial_tail(1, 5, 0.0), binomial_tail(5, 5, 1.0)) == (1.0, 0.0, 1.0)


@given(st.integers(1, 60), st.data())
def test_intervals_hold_the_rate_and_mirror(trials, data):
    hits = data.draw(st.integers(0, trials))
    for interval in (wilson, clopper_pearson):
        low, high = interval(hits, trials)
        assert 0 <= low <= hits / trials <= high <= 1
        other_low, other_high = interval(trials - hits, trials)
        assert (1 - other_high, 1 - other_low) == pytest.approx((low, high), abs=1e-9)


def test_nonsense_counts_are_refused():
    with pytest.raises(ValueError, match="trials"):
        wilson(3, 2)


def test_shares_dealt_by_chance():
    # Of 15 pairs of these six items two reach 1.5: the whole one with either half.
    assert dealt_tail([1.0, 0.5], [0.5, 0.0, 0.0, 0.0]) == pytest.approx(2 / 15, abs=0.015)
    assert dealt_tail([1.0, 0.0], [1.0, 0.0, 0.0]) == exact_tail(1, 2, 1, 3)
    assert dealt_tail([0.0, 0.0], [0.5, 0.0]) == 1.0
    assert dealt_tail([1 / 3] * 20, [0.0] * 20) < 0.001


def test_items_asked_in_three_ways_set_nothing_off_more_often_than_the_level():
    """Guessing is an item's: the three ways are hit together more often than not."""
    rng = np.random.default_rng(3)
    told = by_answers = 0
    for _ in range(1000):
        ours, theirs = (rng.random((size, 3)) < rng.choice([0.01, 0.7], (size, 1), p=[0.9, 0.1]) for size in (50, 40))
        told += dealt_tail(ours.mean(1), theirs.mean(1)) < 0.05
        by_answers += exact_tail(int(ours.sum()), 150, int(theirs.sum()), 120) < 0.05
    assert 10 < told <= allowed(1000, 0.05)
    assert by_answers > allowed(1000, 0.05)
