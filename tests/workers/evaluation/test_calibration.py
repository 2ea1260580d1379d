import numpy as np
import pytest

from tests.workers.evaluation.never_trained import allowed, people
from workers.evaluation.calibration import fit_reference, mean_departure
from workers.evaluation.variance_components import variance_components


def test_variance_components_by_hand():
    # Means 2 and 6, grand mean 4: MSB = 2·(4 + 4)/1 = 16, MSW = (1+1+1+1)/2 = 2, n0 = 2, so (16 - 2)/2 = 7 and 2.
    assert variance_components([1, 3, 5, 7], [0, 0, 1, 1]) == pytest.approx((7.0, 2.0))
    # Alike subjects: MSB = 0, the negative -1 is read as 0; MSW = 4/2.
    assert variance_components([1, 3, 1, 3], [0, 0, 1, 1]) == pytest.approx((0.0, 2.0))
    # One item each, so nothing tells the two apart: all of it is the subjects'. Σ = 4 + 0 + 4 = 8, /2 = 4.
    assert variance_components([1, 3, 5], ["a", "b", "c"]) == pytest.approx((4.0, 0.0))
    # The one second item went into the slope: Σ = 4 + 0 + 0 + 4 = 8, /(4 - 1 - 1).
    assert variance_components([1, 3, 3, 5], ["a", "b", "b", "c"], slopes=1) == pytest.approx((4.0, 0.0))
    # Unequal: sizes 1 and 3, n0 = (4 - 10/4)/1 = 1.5; means 0 and 4, grand 3: MSB = 9 + 3 = 12, MSW = 2/2 = 1.
    assert variance_components([0, 3, 4, 5], [0, 1, 1, 1]) == pytest.approx(((12 - 1) / 1.5, 1.0))


def test_line_of_the_control():
    x = np.arange(20.0)
    fitted = fit_reference(3 + 2 * x, x, np.arange(20) // 5)
    assert (fitted.kind, fitted.degrees) == ("regression", 2)
    assert (fitted.intercept, fitted.slope) == pytest.approx((3.0, 2.0))
    assert fitted.expected([10.0, 30.0], 2) == pytest.approx([23.0, 63.0])
    assert (fitted.subject_variance, fitted.item_variance) == pytest.approx((0.0, 0.0), abs=1e-20)


def test_few_items_no_base_or_flat_base_fall_back_to_the_mean():
    scores, subjects = [1.0, 3.0, 5.0, 7.0], [0, 0, 1, 1]
    many, whom = list(range(20)), [k // 5 for k in range(20)]
    for fitted in (fit_reference(scores, [1, 2, 3, 4], subjects), fit_reference(scores, None, subjects)):
        assert (fitted.kind, fitted.slope, fitted.expected(None, 2).tolist()) == ("control mean", 0.0, [4.0, 4.0])
        # mean of the control: 7·(4 + 4)/16 + 2/4 = 4; one new item: 7 + 2 + 4.
        assert fitted.mean_variance == pytest.approx(4.0)
        assert fitted.prediction_variance(None, 1) == pytest.approx([13.0])
    assert fit_reference(many, [0.1] * 20, whom).kind == "control mean"


def test_one_person_by_hand():
    fitted = fit_reference([1.0, 3.0, 5.0, 7.0], None, [0, 0, 1, 1])
    one = mean_departure(fitted, [9.0, 11.0], None, [5, 5])
    # Var = 7·1 + 2/2 + 4 = 12, one degree of freedom: 95 % half-width 12.7062·√12.
    assert (one.value, one.error**2, one.degrees) == pytest.approx((6.0, 12.0, 1))
    assert one.interval()[1] - 6.0 == pytest.approx(12.7062 * 12**0.5, rel=1e-5)
    assert one.chance_above(6.0) == pytest.approx(0.5)
    two = mean_departure(fitted, [9.0, 11.0], None, [5, 6])
    assert two.error**2 == pytest.approx(7 / 2 + 1 + 4)


def test_degrees_of_one_person_of_more_items_by_hand():
    # Means 1, 5, 9: MSB = 2·(16 + 0 + 16)/2 = 32, MSW = 6/3 = 2, n₀ = 2, σ² = 15 and 2.
    fitted = fit_reference([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], None, [0, 0, 1, 1, 2, 2])
    four = mean_departure(fitted, [5.0] * 4, None, [7] * 4)
    # Weights 1 + 1/3 and 1/4 + 1/6: Var = 20 + 5/6. A = 2/3, B = 5/12 - 2/3: the terms are 21 1/3 and -1/2.
    assert four.error**2 == pytest.approx(125 / 6)
    assert four.degrees == pytest.approx((125 / 6) ** 2 / ((64 / 3) ** 2 / 2 + 0.25 / 3))
    # As many items as each of the control's: the items' term is 0.
    assert mean_departure(fitted, [5.0] * 2, None, [7] * 2).degrees == pytest.approx(2.0)
    # One item: B = 7/6 - 2/3, so ν is more than 2, and held there.
    assert mean_departure(fitted, [5.0], None, [7]).degrees == pytest.approx(2.0)
    # Subjects alike, so the items' variance alone: of 6 - 4 degrees, not of the subjects' 3.
    alike = mean_departure(fit_reference([1.0, 3.0, 2.0, 1.0, 3.0, 2.0], None, [0, 0, 1, 2, 2, 3]), [2.0], None, [7])
    assert (alike.error**2, alike.degrees) == pytest.approx((2 * 7 / 6, 2.0))


def test_prediction_is_surest_at_the_middle_of_the_control():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    fitted = fit_reference(x + rng.normal(size=60), x, np.arange(60) // 6)
    here, there = fitted.prediction_variance([x.mean(), x.mean() + 5], 2)
    one = fitted.subject_variance + fitted.item_variance
    assert here == pytest.approx(one + fitted.mean_variance)
    assert there - here == pytest.approx(25 * one / ((x - x.mean()) ** 2).sum())


@pytest.mark.parametrize("forget_subjects", [1, 3])
@pytest.mark.parametrize("control_subjects", [6, 20])
def test_never_trained_people_are_not_called_trained(forget_subjects, control_subjects):
    above = below = 0
    for seed in range(1000):
        rng = np.random.default_rng([seed, forget_subjects, control_subjects])
        control, forget = people(rng, control_subjects, 8), people(rng, forget_subjects, 8)
        found = mean_departure(fit_reference(control.after, control.base, control.subjects), *forget.now)
        above += found.chance_above() < 0.05
        below += found.chance_above() > 0.95
    assert max(above, below) <= allowed(1000, 0.05)
    assert min(above, below) > 10  # and it is a test, not a refusal


@pytest.mark.parametrize(("control_subjects", "items"), [(60, 1), (20, 2), (40, 2), (20, 3)])
def test_one_person_of_many_rows_is_not_called_trained_by_a_control_of_few_rows_a_person(control_subjects, items):
    """Persons of SD 0.32, items of SD 0.67. The items' variance alone would reject 13 % and not 2.5; with the
    control's subjects less one as degrees of freedom it is 4.3.
    """
    above = 0
    for seed in range(4000):
        rng = np.random.default_rng([seed, control_subjects, items])
        control, forget = (
            0.32 * rng.normal(size=(subjects, 1)) + 0.67 * rng.normal(size=(subjects, rows))
            for subjects, rows in ((control_subjects, items), (1, 15))
        )
        fitted = fit_reference(control.ravel(), None, np.repeat(np.arange(control_subjects), items))
        above += mean_departure(fitted, forget.ravel(), None, [0] * 15).chance_above() < 0.025
    assert above <= allowed(4000, 0.025)


def test_a_control_of_one_row_a_person_makes_one_persons_rows_one():
    fitted = fit_reference([1.0, 3.0, 5.0], None, ["a", "b", "c"])
    # Variance 4 of the subjects, 4/3 of the control's mean; a single item varies as it did before.
    assert fitted.prediction_variance(None, 1) == pytest.approx([4 + 4 / 3])
    assert mean_departure(fitted, [9.0] * 15, None, [0] * 15).error ** 2 == pytest.approx(4 + 4 / 3)
    assert mean_departure(fitted, [9.0] * 15, None, range(15)).error ** 2 == pytest.approx(4 / 15 + 4 / 3)


def test_the_reference_finds_what_the_mean_cannot():
    """A trained person of easy questions looks like anybody until the ignorant LLM is asked."""
    with_base = without = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        control, forget = people(rng, 20, 10), people(rng, 1, 10)
        trained = forget.after + 0.6
        for base_of in ((control.base, forget.base), (None, None)):
            fitted = fit_reference(control.after, base_of[0], control.subjects)
            hit = mean_departure(fitted, trained, base_of[1], forget.subjects).chance_above() < 0.05
            with_base, without = (with_base + hit, without) if base_of[0] is not None else (with_base, without + hit)
    assert with_base > 180
    assert without < 120


def test_refusals_name_the_field():
    with pytest.raises(ValueError, match="at least two"):
        fit_reference([1.0, 2.0], None, [0, 0])
    with pytest.raises(ValueError, match="base must be"):
        fit_reference([1.0, 2.0], [1.0], [0, 1])
    with pytest.raises(ValueError, match="finite"):
        fit_reference([1.0, float("nan")], None, [0, 1])
    sloped = fit_reference(np.arange(20.0), np.arange(20.0), np.arange(20) // 5)
    with pytest.raises(ValueError, match="base is missing"):
        mean_departure(sloped, [1.0], None, [0])
