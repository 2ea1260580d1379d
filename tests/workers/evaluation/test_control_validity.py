import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed
from workers.evaluation.control_validity import outliers, overlap
from workers.evaluation.exchangeability import kind


def test_overlap_by_hand():
    control = [[1, 2, 3, 4], [9, 2, 3], [5, 6], [7]]
    assert overlap(control, [[0, 2, 3, 4, 0]], n=3) == [0]
    assert overlap(control, iter([[8, 9, 2, 3], [5, 6]]), n=3) == [1, 2]
    assert overlap(control, [[5, 6, 7]], n=3) == []  # short ones count whole only
    assert overlap(control, [], n=3) == []


def test_outliers_by_hand():
    # Of 0, 0, 0, 0, 1, 1, 1, 1, v the deletion residual of v is that against mean ½ and s² = 2/7 of the other eight:
    # (v - ½)/√(2/7·9/8), limit t_7(1 - 0.05/9) = 3.42.
    others = [0.0] * 4 + [1.0] * 4
    edge = 0.5 + 3.4186 * (2 / 7 * 9 / 8) ** 0.5
    assert outliers([*others, edge + 0.02], None) == [8]
    assert outliers([*others, edge - 0.02], None) == []
    assert outliers([*others, -50.0], None) == []  # less known is no leak
    assert outliers([1.0] * 9, None) == []
    assert outliers([*[1.0] * 9, 2.0], None) == [9]


def test_an_easy_item_is_no_outlier_to_an_ignorant_llm():
    x = np.arange(10.0)
    scores, noise = 2 * x, 0.1 * np.where(np.arange(10) % 2, 1, -1)
    assert outliers(np.r_[scores + noise, 200.0], np.r_[x, 100.0]) == []
    assert outliers(np.r_[scores + noise, 12.0], np.r_[x, 4.5]) == [10]


def test_kind_by_hand():
    # Persons 0, 1 | 2, 3, 4 in one feature: of the ten pairs only {0,1} and {3,4} are so far out.
    found = kind([[0.0], [1.0]], [0, 1], [[2.0], [3.0], [4.0]], [0, 1, 2], seed=0)
    assert found.p_value == pytest.approx(0.2, abs=0.03)
    assert found.smallest == pytest.approx(0.1)
    assert found.difference == pytest.approx((3 - 0.5) / 2**0.5)


def test_many_items_of_a_person_are_one_and_the_worst_feature_is_named():
    rng = np.random.default_rng(0)
    forget, control = rng.normal(size=(6, 3)), rng.normal(size=(20, 3))
    forget[:, 2] += 4
    once = kind(forget, range(6), control, range(20), seed=1)
    many = kind(np.repeat(forget, 5, 0), np.repeat(range(6), 5), control, range(20), seed=1)
    assert (once.feature, once.p_value) == (2, pytest.approx(1 / 2000))
    assert many.difference == pytest.approx(once.difference)
    with pytest.raises(ValueError, match="features"):
        kind([1.0, 2.0], [0, 1], control, range(20), seed=0)


@pytest.mark.parametrize(("ours", "theirs"), [(5, 15), (15, 5)])
def test_a_good_control_of_fewer_or_more_rows_a_person_is_seldom_doubted(ours, theirs):
    doubted, whose = 0, (np.repeat(range(3), ours), np.repeat(range(20), theirs))
    for seed in range(1000):
        rng = np.random.default_rng([seed, ours])
        forget, control = (0.3 * rng.normal(size=20)[of] + rng.normal(size=len(of)) for of in whose)
        found = kind(forget[:, None], whose[0], control[:, None], whose[1], seed=seed, shuffles=199)
        doubted += found.p_value <= 0.05
    assert 10 < doubted <= allowed(1000, 0.05)


@pytest.mark.parametrize("forget_subjects", [1, 5])
def test_a_good_control_is_seldom_doubted(forget_subjects):
    rng = np.random.default_rng(4)
    doubted = strange = 0
    for seed in range(1000):
        rows = rng.normal(size=(forget_subjects + 20, 2))
        rows[:, 1] = rows[:, 1] > 0  # a type of answer
        found = kind(
            rows[:forget_subjects], range(forget_subjects), rows[forget_subjects:], range(20), seed=seed, shuffles=199
        )
        doubted += found.p_value <= 0.05
        strange += bool(outliers(rows[:, 0], rng.normal(size=len(rows))))
    assert 10 < doubted <= allowed(1000, 0.05)
    assert 10 < strange <= allowed(1000, 0.05)
