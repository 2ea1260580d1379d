import math
from statistics import NormalDist

import pytest

from workers.evaluation.quantiles import incomplete_beta, t_quantile, t_tail


def test_incomplete_beta_in_closed_form():
    # I_x(1, b) = 1 - (1-x)^b, I_x(a, 1) = x^a, I_x(2, 2) = 3x² - 2x³, I_x(½, ½) = (2/π) asin √x.
    assert incomplete_beta(1, 3, 0.2) == pytest.approx(1 - 0.8**3, abs=1e-13)
    assert incomplete_beta(4, 1, 0.7) == pytest.approx(0.7**4, abs=1e-13)
    assert incomplete_beta(2, 2, 0.3) == pytest.approx(3 * 0.09 - 2 * 0.027, abs=1e-13)
    assert incomplete_beta(0.5, 0.5, 0.9) == pytest.approx(2 / math.pi * math.asin(math.sqrt(0.9)), abs=1e-13)
    assert (incomplete_beta(2, 3, 0.0), incomplete_beta(2, 3, 1.0)) == (0.0, 1.0)


def test_one_and_two_degrees_have_closed_forms():
    for p in (0.6, 0.95, 0.975, 0.9995):
        a = 2 * p - 1
        assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * a / 2), rel=1e-10)
        assert t_quantile(p, 2) == pytest.approx(a * math.sqrt(2 / (1 - a * a)), rel=1e-10)


def test_printed_tables():
    for p, degrees, printed in ((0.95, 10, 1.812), (0.975, 19, 2.093), (0.99, 30, 2.457), (0.95, 120, 1.658)):
        assert t_quantile(p, degrees) == pytest.approx(printed, abs=5e-4)


def test_many_degrees_are_normal_and_sides_mirror():
    assert t_quantile(0.975, 1e7) == pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-6)
    assert t_quantile(0.05, 7) == -t_quantile(0.95, 7)
    assert t_tail(1.3, 7) + t_tail(-1.3, 7) == pytest.approx(1.0)
    assert (t_tail(math.inf, 3), t_tail(-math.inf, 3)) == (0.0, 1.0)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="probability"):
        t_quantile(1.0, 5)
    with pytest.raises(ValueError, match="beta"):
        incomplete_beta(1, 1, 1.5)
