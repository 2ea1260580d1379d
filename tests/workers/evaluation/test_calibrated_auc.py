import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed, people
from workers.evaluation.calibrated_auc import auc_statistic, telling_apart
from workers.evaluation.calibration import fit_reference


def departures(rng, forget_subjects, control_subjects, items, left=0.0):
    control, forget = people(rng, control_subjects, items), people(rng, forget_subjects, items)
    line = fit_reference(control.after, control.base, control.subjects)
    ours = forget.after + left - line.expected(forget.base, len(forget.after))
    return ours, forget.subjects, control.after - line.expected(control.base, len(control.after)), control.subjects


def test_by_hand():
    auc = auc_statistic(np.array([1.0, 3.0]), np.array([0.0, 1.0, 2.0]))
    # 1 beats 0 and ties with 1: 1.5; 3 beats all: 3. 4.5 of 6. With 3 counted twice and 2 not at all: 1.5 + 2·2 of 6.
    assert auc([np.ones((1, 2)), np.ones((1, 3))]) == pytest.approx([0.75])
    assert auc([np.array([[1.0, 2.0]]), np.array([[1.0, 1.0, 0.0]])]) == pytest.approx([5.5 / 6])


def test_each_outcome():
    rng = np.random.default_rng(0)
    assert telling_apart(*departures(rng, 60, 60, 10), seed=1, resamples=500).outcome == "same"
    assert telling_apart(*departures(rng, 20, 20, 5, left=1.0), seed=1, resamples=500).outcome == "known"
    assert telling_apart(*departures(rng, 20, 20, 5, left=-1.0), seed=1, resamples=500).outcome == "silent"
    assert telling_apart(*departures(rng, 3, 20, 5), seed=1, resamples=500).outcome == "undecided"
    with pytest.raises(ValueError, match="margin"):
        telling_apart(*departures(rng, 3, 20, 5), seed=1, margin=0.5)


def test_never_trained_people_are_seldom_told_apart():
    above = below = 0
    for seed in range(1000):
        found = telling_apart(*departures(np.random.default_rng(seed), 10, 20, 4), seed=seed, resamples=200).interval
        above, below = above + (found.low > 0.5), below + (found.high < 0.5)
    assert max(above, below) <= allowed(1000, 0.05)
    assert min(above, below) > 10
