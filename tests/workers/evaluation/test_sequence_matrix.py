import math

import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed
from workers.evaluation.sequence_matrix import backward_score, to_ask_again


def test_backward_score_by_hand():
    found = backward_score([0.08, 0.01], 0.05)
    # mean 0.045, s/√2 = 0.035, t_1(0.95) = 6.313752
    assert (found.score, found.low, found.high) == pytest.approx((0.045, 0.045 - 0.220981, 0.045 + 0.220981), abs=1e-6)
    assert found.requests == 2


def test_of_one_request_there_are_no_bounds():
    assert backward_score([0.4], 0.05) is None
    assert backward_score([], 0.05) is None
    with pytest.raises(ValueError, match="finite"):
        backward_score([0.1, math.nan], 0.05)


def test_who_is_asked_again():
    assert to_ask_again(7, seed=0) == tuple(range(7))
    assert to_ask_again(30, seed=0) == tuple(range(30))
    some = to_ask_again(31, {2, 99}, seed=0)
    assert set(range(21, 31)) | {2} <= set(some)
    assert 15 <= len(some) <= 16  # ten, a fifth of 21 rounded up, and number 2 unless it was drawn
    assert some == to_ask_again(31, {2, 99}, seed=0) != to_ask_again(31, {2, 99}, seed=1)


def test_steady_residuals_seldom_seem_to_return():
    """1,000 rows of eight earlier requests whose measurements scatter and do not rise: nominal level 5 %."""
    rng = np.random.default_rng(3)
    rises = 0.02 * rng.normal(size=(1000, 8))
    seem = sum(backward_score(row, 0.05).low > 0 for row in rises)
    assert 10 < seem <= allowed(1000, 0.05)
