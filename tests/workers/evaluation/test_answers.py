import math

import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed
from workers.evaluation.answers import answers_needed, answers_not_inferior, restricted_variance


def test_by_hand():
    # One lost of 300, margin 0.02: most likely at q_lost = 0.02, q_gained = 0, so Z = (6 - 1 - ½)/√(300·0.0196).
    assert restricted_variance(1, 0, 300, 0.02) == pytest.approx(0.0196)
    found = answers_not_inferior(1, 0, 300, 0.02)
    assert found.p_value == pytest.approx(0.5 * math.erfc(4.5 / math.sqrt(5.88) / math.sqrt(2)))
    assert found.p_value == pytest.approx(0.0317, abs=1e-4)
    assert (found.outcome, found.value) == ("pass", -1 / 300)
    two = answers_not_inferior(2, 0, 300, 0.02)
    assert two.outcome == "undecided"
    assert two.p_value == pytest.approx(0.0745, abs=1e-4)  # Z = 3.5/2.4249
    assert answers_not_inferior(6, 0, 300, 0.02).p_value == pytest.approx(0.5)
    assert answers_not_inferior(20, 0, 300, 0.02).outcome == "fail"


@pytest.mark.parametrize(("lost", "gained"), [(5, 3), (2, 9), (12, 12)])
def test_the_root_is_where_the_table_is_most_likely(lost, gained):
    n, margin = 200, 0.03
    q = np.linspace(margin + 1e-6, 0.4, 400_000)
    likelihood = gained * np.log(q - margin) + lost * np.log(q) + (n - lost - gained) * np.log(1 - 2 * q + margin)
    best = q[likelihood.argmax()]
    assert restricted_variance(lost, gained, n, margin) == pytest.approx(2 * best - margin - margin**2, abs=1e-5)


def test_needed_by_hand():
    # Nothing changed: nΔ - ½ ≥ 1.644854 √(n·0.0196): √n = (0.230280 + √(0.053029 + 0.04))/0.04.
    expected = ((0.2302795 + math.sqrt(0.2302795**2 + 0.04)) / 0.04) ** 2
    assert answers_needed(0.0196, 0.0, 0.02) == math.ceil(expected)
    assert answers_not_inferior(0, 0, math.ceil(expected), 0.02).outcome == "pass"
    few = answers_not_inferior(0, 0, math.ceil(expected) - 1, 0.02)
    assert (few.outcome, few.needed) == ("undecided", math.ceil(expected))


@pytest.mark.parametrize(("answers", "margin", "both"), [(300, 0.02, 0.0), (300, 0.02, 0.05), (60, 0.05, 0.02)])
def test_a_loss_of_the_margin_passes_seldom(answers, margin, both):
    rng = np.random.default_rng(1)
    table = rng.multinomial(answers, [margin + both, both, 1 - margin - 2 * both], size=1000)
    found = [answers_not_inferior(int(lost), int(gained), answers, margin) for lost, gained, _ in table]
    passed = sum(one.outcome == "pass" for one in found)
    assert 0 < passed <= allowed(1000, 0.05)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="lost"):
        answers_not_inferior(3, 3, 5, 0.02)
