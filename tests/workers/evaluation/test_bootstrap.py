import math

import numpy as np
import pytest

from workers.evaluation.bootstrap import (
    acceleration,
    bca_ends,
    cluster_bootstrap,
    leave_one_out,
    subject_counts,
    widened,
)


def _mean(values):
    column = np.asarray(values, dtype=float)
    return lambda weights: weights[0] @ column / weights[0].sum(1)


def test_subjects_are_drawn_whole():
    counts = subject_counts(["a", "b", "a", "c"], 50, np.random.default_rng(0))
    assert counts.shape == (50, 4)
    assert (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, [0, 1, 3]].sum(1) == 3).all()
    assert leave_one_out(["a", "b", "a", "c"]).tolist() == [[0, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 0]]


def test_acceleration_by_hand():
    # A mean of 0, 0, 3: leaving each out gives 1.5, 1.5, 0, so l = 2·(1 - θ) = -1, -1, 2.
    # Σ l³ = 6, Σ l² = 6: a = (6/27) / (6 (6/9)^1.5).
    left_out = np.array([1.5, 1.5, 0.0])
    expected = (6 / 27) / (6 * (6 / 9) ** 1.5)
    assert acceleration([left_out]) == pytest.approx(expected)
    # A second sample that does not matter changes nothing; one that mirrors the first cancels it.
    assert acceleration([left_out, np.zeros(5)]) == pytest.approx(expected)
    assert acceleration([left_out, -left_out]) == pytest.approx(0.0)
    assert acceleration([np.ones(4)]) == 0.0


def test_without_bias_and_skew_bca_is_the_percentile():
    resampled = np.arange(1.0, 100.0)  # symmetric about 50
    low, high = bca_ends(50.0, resampled, 0.0, 1.0)
    assert low == pytest.approx(1 + 98 * 0.158655, abs=1e-3)
    assert low + high == pytest.approx(100.0)


def test_bias_moves_both_ends_by_hand():
    # 69.15 % of the resamples below: z0 = 0.5, ends at Φ(2·0.5 ± 1) = Φ(0) = 0.5 and Φ(2) = 0.97725.
    resampled = np.linspace(0.0, 1.0, 200001)
    low, high = bca_ends(0.691462, resampled, 0.0, 1.0)
    assert (low, high) == pytest.approx((0.5, 0.97725), abs=1e-4)


def test_few_subjects_are_asked_further_out():
    # t_1 at 95 % two-sided is 12.706, times √2.
    assert widened(0.95, 2) == pytest.approx(math.sqrt(2) * 12.7062, rel=1e-5)
    assert widened(0.95, 10**6) == pytest.approx(1.95996, abs=1e-4)


def test_one_subject_many_items_counts_once():
    values, subjects = [0.0, 1.0, 2.0, 5.0], [0, 1, 2, 3]
    alone = cluster_bootstrap(_mean(values), [subjects], seed=4)
    many = cluster_bootstrap(_mean(np.repeat(values, 9)), [np.repeat(subjects, 9)], seed=4)
    assert (many.value, many.low, many.high) == pytest.approx((2.0, alone.low, alone.high))


def test_seed_decides_and_one_subject_is_refused():
    values, subjects = np.sin(np.arange(30.0)), np.arange(30) // 3
    runs = [cluster_bootstrap(_mean(values), [subjects], seed=seed) for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]
    with pytest.raises(ValueError, match="at least two"):
        cluster_bootstrap(_mean([1.0, 2.0]), [[0, 0]], seed=0)
