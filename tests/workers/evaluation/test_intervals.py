import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evaluation.intervals import binomial_tail, clopper_pearson, wilson


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
