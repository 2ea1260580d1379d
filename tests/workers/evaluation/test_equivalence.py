import math

import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed
from workers.evaluation.equivalence import clustered_error, outcome_of, units_needed
from workers.evaluation.quantiles import t_quantile


def test_error_of_clusters_by_hand():
    # Mean 2; subject sums of d - 2 are -2 and 2: SE² = 2·(4 + 4)/16 = 1.
    assert clustered_error([1, 1, 3, 3], [0, 0, 1, 1]) == pytest.approx((2.0, 1.0, 2))
    # One item each: the textbook s/√n, s² = 5/3, n = 4.
    assert clustered_error([1, 2, 3, 4], [0, 1, 2, 3]) == pytest.approx((2.5, (5 / 12) ** 0.5, 4))


def test_units_needed():
    # (1.644854 + 0.841621)² / 0.05² = 2473.02, + 1.644854²/2 = 1.35; at 0.5: 24.73 + 1.35.
    assert (units_needed(1.0, 0.05), units_needed(1.0, 0.5)) == (2475, 27)
    rng = np.random.default_rng(0)
    n = units_needed(1.0, 0.5)
    shown = 0
    for _ in range(1000):
        mean, error, k = clustered_error(rng.normal(size=n), range(n))
        shown += mean - t_quantile(0.95, k - 1) * error > -0.5
    assert 770 < shown < 850


def test_a_bound_beyond_the_margin_decides_nothing():
    assert outcome_of(-0.01, 0.01, (-0.02, math.inf)) == "pass"
    assert outcome_of(-0.03, 0.01, (-0.02, math.inf)) == "undecided"
    assert outcome_of(-0.05, -0.02, (-0.02, math.inf)) == "fail"


def test_harm_at_the_margin_passes_seldom():
    """1,000 draws of a true loss at the margin, by the bound that the gate takes: nominal level 5 %."""
    passed = 0
    whom = np.repeat(np.arange(12), 5)
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        changes = -0.1 + 0.05 * rng.normal(size=12)[whom] + 0.05 * rng.normal(size=60)
        mean, error, k = clustered_error(changes, whom)
        passed += mean - t_quantile(0.95, k - 1) * error > -0.1
    assert 10 < passed <= allowed(1000, 0.05)


def test_one_subject_has_no_error():
    with pytest.raises(ValueError, match="two subjects"):
        clustered_error([0.0, 1.0], [0, 0])
