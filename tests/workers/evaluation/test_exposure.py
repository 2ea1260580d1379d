import math
import random
from statistics import NormalDist, fmean

import pytest
import torch

from workers.evaluation.exposure import (
    SkewNormal,
    chance,
    exposure_by_distribution,
    exposure_by_rank,
    fit_skew_normal,
    log_cdf,
)

torch.set_num_threads(1)


def test_rank_by_hand():
    alternatives = [float(value) for value in range(1, 16)]
    assert exposure_by_rank(0.5, alternatives) == 4.0  # first of sixteen
    assert exposure_by_rank(3.5, alternatives) == 2.0  # fourth
    assert exposure_by_rank(3.0, alternatives) == 2.0  # a tie counts against it
    assert exposure_by_rank(99.0, alternatives) == 0.0


def test_by_chance_it_is_an_exact_p_value():
    """Any of 2^10 places is as likely: P(exposure ≥ e) = 2^-e for whole e, and 1.44 bits on average."""
    values = [float(value) for value in range(2**10)]
    found = [exposure_by_rank(one, values[:at] + values[at + 1 :]) for at, one in enumerate(values)]
    for bits in range(11):
        assert sum(one >= bits for one in found) == 2 ** (10 - bits)
    assert fmean(found) == pytest.approx(1.44, abs=0.01)


def test_many_equal_alternatives_make_no_exposure():
    assert exposure_by_rank(1.0, [1.0] * 99) == 0.0


@pytest.mark.parametrize("z", [-38.0, -8.0, -2.0, -1.0, -0.99, 0.0, 1.5, 6.0])
def test_without_skew_it_is_the_normal_distribution(z):
    expected = float(torch.special.log_ndtr(torch.tensor(z, dtype=torch.float64)))
    assert log_cdf(3.0 + 2.0 * z, SkewNormal(3.0, 2.0, 0.0)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("z", [-30.0, -5.0, -1.0, 0.0, 0.5, 3.0])
def test_with_shape_one_it_is_the_normal_distribution_squared(z):
    # d/dz Φ(z)² = 2 φ(z) Φ(z).
    expected = 2 * float(torch.special.log_ndtr(torch.tensor(z, dtype=torch.float64)))
    assert log_cdf(z, SkewNormal(0.0, 1.0, 1.0)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("shape", [-30.0, -3.0, 3.0, 30.0])
def test_left_and_right_make_one(shape):
    # X with shape α below z is -X with shape -α above -z.
    left, right = log_cdf(0.4, SkewNormal(0.0, 1.0, shape)), log_cdf(-0.4, SkewNormal(0.0, 1.0, -shape))
    assert math.exp(left) + math.exp(right) == pytest.approx(1.0, abs=1e-9)


def test_at_its_location_by_hand():
    # P(X ≤ ξ) = 1/2 - arctan(α)/π.
    assert math.exp(log_cdf(0.0, SkewNormal(0.0, 1.0, 3.0))) == pytest.approx(0.5 - math.atan(3.0) / math.pi)


def test_moments_by_hand():
    # Symmetric: mean 0, standard deviation 1, no skew.
    flat = fit_skew_normal([-1.0, 1.0])
    assert (flat.location, flat.scale, flat.shape) == pytest.approx((0.0, 1.0, 0.0))
    # -1, -1, 2: mean 0, s² = 2, γ = (−1 − 1 + 8)/3 / 2^1.5 = 0.7071; the fit has these moments again.
    skewed = fit_skew_normal([-1.0, -1.0, 2.0])
    delta = skewed.shape / math.sqrt(1 + skewed.shape**2)
    mean = delta * math.sqrt(2 / math.pi)
    assert skewed.location + skewed.scale * mean == pytest.approx(0.0, abs=1e-12)
    assert skewed.scale**2 * (1 - mean**2) == pytest.approx(2.0)
    assert (4 - math.pi) / 2 * mean**3 / (1 - mean**2) ** 1.5 == pytest.approx(math.sqrt(0.5))
    assert fit_skew_normal([0.0] * 99 + [1.0]).shape < math.inf  # skewer than any skew normal


def test_both_ways_agree_where_both_reach_and_one_goes_beyond():
    chance = random.Random(5)
    alternatives = [chance.gauss(4.0, 0.5) for _ in range(2000)]
    rare = NormalDist(4.0, 0.5).inv_cdf(2**-6)
    assert exposure_by_rank(rare, alternatives) == pytest.approx(6.0, abs=0.6)
    assert exposure_by_distribution(rare, alternatives) == pytest.approx(6.0, abs=0.6)
    # Known by heart: the rank ends at log2(2001), the distribution tells how far out it is.
    assert exposure_by_rank(0.01, alternatives) == math.log2(2001)
    assert exposure_by_distribution(0.01, alternatives) > 35.0


def test_by_chance_the_distribution_gives_as_few_bits():
    """Alternatives and 400 canaries from one skewed distribution, |N| + N/3: P(exposure ≥ 3) is about 1/8."""
    chance = random.Random(11)
    drawn = [abs(chance.gauss(0.0, 1.0)) + chance.gauss(0.0, 1 / 3) for _ in range(2400)]
    found = [exposure_by_distribution(canary, drawn[400:]) for canary in drawn[:400]]
    # Standard error of the share 0.017, of the mean 0.07.
    assert sum(one >= 3.0 for one in found) / 400 == pytest.approx(1 / 8, abs=0.06)
    assert fmean(found) == pytest.approx(1.44, abs=0.25)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="draw 1 or more"):
        exposure_by_rank(1.0, [])
    with pytest.raises(ValueError, match="draw 20 or more"):
        exposure_by_distribution(1.0, [1.0, 2.0])
    with pytest.raises(ValueError, match="equally likely"):
        exposure_by_distribution(1.0, [2.0] * 20)
    with pytest.raises(ValueError, match="finite"):
        exposure_by_rank(math.nan, [1.0])


def test_the_chance_of_so_many_bits_by_hand():
    assert chance([5.0]) == pytest.approx(2**-5)
    assert chance([0.0, 0.0]) == 1.0
    # E = 4: 2^-4 (1 + 4 ln 2)
    assert chance([3.0, 1.0]) == pytest.approx((1 + 4 * math.log(2)) / 16)
    # E = 6: 2^-6 (1 + 6 ln 2 + (6 ln 2)²/2)
    assert chance([2.0, 2.0, 2.0]) == pytest.approx((1 + 6 * math.log(2) + (6 * math.log(2)) ** 2 / 2) / 64)
    assert chance([1.0] * 500) == pytest.approx(1.0)
