import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed
from workers.evaluation.conformal import (
    benjamini_hochberg,
    conformal_p_values,
    control_needed,
    identified_items,
)


def test_p_values_by_hand():
    # Against 1, 2, 3, 4: above all 1/5; tied with 3, two as high: 3/5; below all 5/5.
    assert conformal_p_values([9, 3, 0], [4, 1, 3, 2]).tolist() == [0.2, 0.6, 1.0]


def test_published_example():
    """Benjamini and Hochberg 1995: of these fifteen p-values the procedure rejects four at 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert benjamini_hochberg(p, 0.05).tolist() == [0, 1, 2, 3]
    assert benjamini_hochberg(p[::-1], 0.05).tolist() == [14, 13, 12, 11]
    # A later p under its line takes the earlier ones along: 0.04 > 0.05/2, but 0.045 <= 0.05.
    assert benjamini_hochberg([0.045, 0.04], 0.05).tolist() == [1, 0]
    assert benjamini_hochberg([0.9], 0.05).tolist() == []


def test_a_control_too_small_says_so():
    assert control_needed(10, 0.05) == 199  # 1/200 = 0.05/10
    control = np.arange(199.0)
    scores = [1000.0] + [0.0] * 9
    assert identified_items(scores, control).listed == (0,)
    small = identified_items(scores, control[1:])
    assert (small.listed, small.able, small.control_needed) == ((), False, 199)


@pytest.mark.parametrize(("items", "control"), [(1, 99), (10, 400)])
def test_never_trained_items_are_seldom_listed(items, control):
    """Where all are never trained every listed item is false, so some are in at most 5 % of the draws."""
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(1000, items + control))
    some = sum(bool(identified_items(row[:items], row[items:]).listed) for row in draws)
    assert 10 < some <= allowed(1000, 0.05)


def test_an_empty_control_is_refused():
    with pytest.raises(ValueError, match="control"):
        conformal_p_values([1.0], [])
