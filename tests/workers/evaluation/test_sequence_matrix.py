import math

import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed
from workers.evaluation.sequence_matrix import (
    backward_scores,
    reemergence,
    reemergence_matrix,
    to_ask_again,
    utility_spent,
)

NAN = math.nan
RESIDUALS = [[0.05, 0.06, 0.13], [NAN, 0.02, 0.03], [NAN, NAN, 0.0]]


def test_matrix_by_hand():
    e = reemergence_matrix(RESIDUALS)
    assert e[0] == pytest.approx([0.0, 0.01, 0.08])
    assert e[1, 1:] == pytest.approx([0.0, 0.01])
    assert np.isnan(e[np.tril_indices(3, -1)]).all()
    scores = backward_scores(RESIDUALS)
    assert math.isnan(scores[0])
    assert scores[1:] == pytest.approx([0.01, 0.045])


def test_last_column_by_hand():
    found = reemergence(RESIDUALS)
    # e = 0.08, 0.01: mean 0.045, s/√2 = 0.035, t_1(0.95) = 6.313752.
    assert (found.mean, found.upper) == pytest.approx((0.045, 0.045 + 6.313752 * 0.035))
    assert (found.requests, found.worst, found.outcome) == (2, 0, "review")
    assert found.largest == pytest.approx(0.08)
    assert reemergence([[0.0, 0.05], [NAN, 0.0]]).outcome == "pass"
    one = reemergence([[0.0, 0.11], [NAN, 0.0]])
    assert (one.outcome, one.upper) == ("reject", math.inf)


def test_what_was_not_asked_does_not_count():
    partly = [[0.0, 0.3, NAN], [NAN, 0.0, 0.01], [NAN, NAN, 0.0]]
    found = reemergence(partly)
    assert (found.requests, found.worst, found.outcome) == (1, 1, "pass")
    assert reemergence([[0.4]]) is None
    with pytest.raises(ValueError, match="own time"):
        reemergence([[NAN, 0.1], [NAN, 0.0]])
    with pytest.raises(ValueError, match="square"):
        reemergence([[0.1, 0.2]])


def test_small_losses_add_up():
    first = {"retain": 0.9, "utility": 0.6, "neighbours": 0.5}
    history = [{"retain": 0.9 - 0.005 * k, "utility": 0.6 - 0.012 * k, "neighbours": 0.51} for k in (1, 2, 3)]
    spent = utility_spent(first, history)
    # 0.015 of 0.02 in three requests: one more. 0.036: review. Nothing lost: no end.
    assert (spent["retain"].loss, spent["retain"].requests_left, spent["retain"].outcome) == (
        pytest.approx(0.015),
        1,
        "pass",
    )
    assert (spent["utility"].requests_left, spent["utility"].outcome) == (0, "review")
    assert (spent["neighbours"].requests_left, spent["neighbours"].outcome) == (None, "pass")
    assert utility_spent({"a": 0.9}, [{"a": 0.85}])["a"].outcome == "reject"
    with pytest.raises(ValueError, match="components"):
        utility_spent(first, [{"retain": 0.9}])


def test_who_is_asked_again():
    assert to_ask_again(7, seed=0) == tuple(range(7))
    assert to_ask_again(30, seed=0) == tuple(range(30))
    some = to_ask_again(31, {2, 99}, seed=0)
    assert set(range(21, 31)) | {2} <= set(some)
    assert 15 <= len(some) <= 16  # ten, a fifth of 21 rounded up, and number 2 unless it was drawn
    assert some == to_ask_again(31, {2, 99}, seed=0) != to_ask_again(31, {2, 99}, seed=1)


def test_steady_residuals_seldom_seem_to_return():
    rng = np.random.default_rng(3)
    seem = 0
    for _ in range(1000):
        residuals = 0.02 * rng.normal(size=(9, 9)) + np.linspace(-0.1, 0.1, 9)[:, None]
        found = reemergence(np.where(np.triu(np.ones((9, 9))) > 0, residuals, NAN))
        seem += 2 * found.mean - found.upper > 0  # the mirrored lower bound
    assert 10 < seem <= allowed(1000, 0.05)
