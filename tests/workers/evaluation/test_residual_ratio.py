import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed, people
from workers.evaluation.residual_ratio import Scored, ratio_statistic, residual_ratio


def scored(some, left=0.0):
    return Scored(some.before, some.after + left, some.base, some.subjects)


def pair(seed, forget_subjects, left=0.0, known=2.0):
    rng = np.random.default_rng([seed, forget_subjects])
    return scored(people(rng, forget_subjects, 4, known=known), left), scored(people(rng, 20, 4))


def column(*values):
    return np.array(values, dtype=float)


def test_by_hand_against_the_control_mean():
    control = Scored(column(0, 2, 0, 2), column(0, 2, 0, 2), None, [0, 0, 1, 1])
    forget = Scored(column(11, 11), column(3, 1.5), None, [0, 0])
    # Control mean 1: D = 10, d = 1.25, so ρ = 1/8.
    assert ratio_statistic(forget, control, False)([np.ones((1, 2)), np.ones((1, 4))]) == pytest.approx([0.125])
    # u = after - ρ before on the control: 0, 7/4 twice; MSB = 0, MSW = 2·2·(7/8)²/2, Var = MSW (1/2 + 1/4), t_1(0.95).
    found = residual_ratio(forget, control, seed=0)
    assert found.basis == "control's variance"
    assert (found.interval.value, found.gap.value) == pytest.approx((0.125, 10.0))
    half = 6.31375 * (2 * (7 / 8) ** 2 * 0.75) ** 0.5 / 10
    assert found.interval.high - 0.125 == pytest.approx(half, rel=1e-5)


def test_difficulty_is_taken_out_by_hand():
    x = np.arange(20.0)
    whom = np.arange(20) // 4
    control = Scored(1 + x, 2 - x, x, whom)
    harder = column(30, 31, 32, 33, 34)
    forget = Scored(1 + harder + 8, 2 - harder + 2, harder, np.arange(5))
    found = residual_ratio(forget, control, seed=0, resamples=50)
    assert (found.interval.value, found.gap.value) == pytest.approx((0.25, 8.0))
    assert (found.interval.low, found.interval.high) == pytest.approx((0.25, 0.25))


def test_score_and_its_negative_agree():
    forget, control = pair(1, 6, left=0.7)
    turned = [Scored(-one.before, -one.after, one.base, one.subjects) for one in (forget, control)]
    one, other = (residual_ratio(*both, seed=2).interval for both in ((forget, control), turned))
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_nothing_to_forget_has_no_ratio():
    assert residual_ratio(*pair(0, 6, known=0.0), seed=0) is None


def test_people_never_trained_have_no_residual():
    above = below = 0
    for seed in range(1000):
        interval = residual_ratio(*pair(seed, 10), seed=seed, resamples=200).interval
        above, below = above + (interval.low > 0), below + (interval.high < 0)
    assert max(above, below) <= allowed(1000, 0.05)
    assert min(above, below) > 10
