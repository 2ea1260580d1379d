import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed, people
from workers.evaluation.acceptance import attempt_alpha, memorised
from workers.evaluation.calibration import MeanDeparture, fit_reference, mean_departure


def test_attempts_spend_alpha_by_hand():
    # 1 + 1/2 + 1/3 = 11/6: 0.05·6/11, half and a third of it.
    levels = [attempt_alpha(a, 3) for a in (1, 2, 3)]
    assert levels == pytest.approx([0.3 / 11, 0.15 / 11, 0.1 / 11])
    assert sum(levels) == pytest.approx(0.05)
    assert attempt_alpha(1, 1) == 0.05
    with pytest.raises(ValueError, match="attempt"):
        attempt_alpha(4, 3)


def test_each_answer_by_hand():
    # t_10(0.95) = 1.812461: the ends are value ± 1.8125 errors.
    shown = memorised(MeanDeparture(0.01, 0.01, 10), 1, 0.05)
    assert shown.outcome == "not_memorised"
    assert (shown.low, shown.high) == pytest.approx((-0.00812461, 0.02812461), abs=1e-7)
    assert memorised(MeanDeparture(0.01, 0.01, 10), 1, 0.05, leaks=1).outcome == "memorised"
    assert memorised(MeanDeparture(0.2, 0.05, 10), 1, 0.05).outcome == "memorised"
    unsure = memorised(MeanDeparture(0.02, 0.05, 10), 1, 0.05)
    # One subject scatters by 0.05 = the margin: (1.644854 + 0.841621)² = 6.183, + 1.353.
    assert (unsure.outcome, unsure.needed) == ("undecided", 8)
    assert "about 8 are needed" in unsure.words
    # Measurable but below the margin: nothing worth forgetting.
    assert memorised(MeanDeparture(0.02, 0.005, 10), 1, 0.05).outcome == "not_memorised"
    with pytest.raises(ValueError, match="margin"):
        memorised(MeanDeparture(0.0, 0.1, 10), 1, 0.0)


@pytest.mark.parametrize(("known", "wrong"), [(0.0, "memorised"), (0.5, "not_memorised")])
def test_either_answer_is_seldom_wrong(known, wrong):
    """Never trained and called memorised; known by exactly the margin and called not memorised."""
    count = 0
    for seed in range(1000):
        rng = np.random.default_rng([seed, int(10 * known)])
        control, forget = people(rng, 12, 6), people(rng, 1, 6, known=known)
        gap = mean_departure(
            fit_reference(control.before, control.base, control.subjects), forget.before, forget.base, forget.subjects
        )
        count += memorised(gap, 1, 0.5).outcome == wrong
    assert count <= allowed(1000, 0.05)
    assert count > 0
