import math

import pytest

from workers.evaluation.truth_ratio import (
    forget_truth_ratio,
    mean_probability,
    option_probability,
    retain_truth_ratio,
    truth_ratio,
    truth_share,
)


def nll(probability):
    return -math.log(probability)


def test_the_two_averages_by_hand():
    # Right 1/2; wrong 1/4 and 1/16: arithmetic mean 5/32, geometric 1/8.
    wrong = [nll(1 / 4), nll(1 / 16)]
    assert truth_ratio(nll(1 / 2), wrong, "paper") == pytest.approx(5 / 16)
    assert truth_ratio(nll(1 / 2), wrong, "published") == pytest.approx(1 / 4)
    assert truth_ratio(nll(1 / 2), wrong) == pytest.approx(1 / 4)


def test_the_three_means_by_hand():
    # R = 1/4 and 2: min(R, 1/R) is 1/4, 1/2; max(0, 1 - R) is 3/4, 0; 1/(1 + R) is 4/5, 1/3.
    assert forget_truth_ratio([0.25, 2.0]) == pytest.approx(3 / 8)
    assert retain_truth_ratio([0.25, 2.0]) == pytest.approx(3 / 8)
    assert truth_share([0.25, 2.0]) == pytest.approx(17 / 30)
    assert truth_share([1.0]) == 0.5


def test_an_answer_held_impossible_overflows_nothing():
    assert truth_ratio(1e4, [1.0]) == math.inf
    assert forget_truth_ratio([math.inf]) == retain_truth_ratio([math.inf]) == truth_share([math.inf]) == 0.0


def test_probabilities_by_hand():
    assert mean_probability([nll(1 / 2), nll(1 / 4)]) == pytest.approx(3 / 8)
    assert option_probability(nll(1 / 2), [nll(1 / 4), nll(1 / 4)]) == pytest.approx(1 / 2)
    assert option_probability(1e4, [0.0]) == 0.0


@pytest.mark.parametrize("mean", [mean_probability, forget_truth_ratio, retain_truth_ratio, truth_share])
def test_nothing_has_no_mean(mean):
    with pytest.raises(ValueError, match="at least one"):
        mean([])


def test_no_wrong_answer_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        truth_ratio(1.0, [])
    with pytest.raises(ValueError, match="at least one"):
        option_probability(1.0, [])
