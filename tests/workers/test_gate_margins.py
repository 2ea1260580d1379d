"""One number against a margin: the lines of the rule, by hand."""

import math
from statistics import NormalDist

import pytest

from records.policy import Margin
from workers.evaluation.intervals import exact_tail
from workers.gate.margins import FIRST_ALPHA, Bounds, judge, units_needed

MARGIN = Margin(accept=0.1, reject=0.2)


@pytest.mark.parametrize(
    ("harm", "outcome", "words"),
    [
        (Bounds(0.02, -0.04, 0.08, 5), "pass", "shown to be at most 0.1"),
        # z = 1.922 and 1.645: a reach of 0.05 becomes 0.05 (1 + 1.645/1.922) = 0.093 ≤ 0.1: five people were enough.
        (Bounds(0.06, 0.01, 0.11, 5), "review", "though there are enough people"),
        # A reach of 0.1 becomes 0.186; 5 (0.186/0.1)² = 17.2.
        (Bounds(0.06, -0.04, 0.16, 5), "pass", "5 people measured, about 18 are needed"),
        (Bounds(0.06, -0.04, 0.16, 1), "pass", "one person measured, about 4 are needed"),
        (Bounds(0.25, 0.05, 0.45, 5), "reject", "rejected above 0.2"),
        (Bounds(0.15, 0.05, 0.25, 5), "review", "accepted up to 0.1, rejected above 0.2"),
        (Bounds(0.30, -0.10, 0.70, 5), "review", "too few items to tell this from chance"),
        # What scatters is the leak: a harmless candidate would have a reach of nothing.
        (Bounds(0.06, -0.04, 0.16, 5, reach=0.0), "review", "though there are enough people"),
    ],
)
def test_the_rule(harm, outcome, words):
    found = judge(harm, MARGIN, "accept")
    assert found.outcome == outcome
    assert words in found.words


def test_a_ratio_is_harmless_at_one():
    margin = Margin(accept=1.05, reject=1.10)
    assert judge(Bounds(1.12, 0.99, 1.25, 5, harmless=1.0), margin, "accept").outcome == "review"
    assert judge(Bounds(1.12, 1.02, 1.22, 5, harmless=1.0), margin, "accept").outcome == "reject"


def test_a_policy_may_want_a_person_where_items_are_too_few():
    assert judge(Bounds(0.06, -0.04, 0.16, 5), MARGIN, "review").outcome == "review"
    assert judge(Bounds(0.02, -0.04, 0.08, 5), MARGIN, "review").outcome == "pass"


def test_needed_units_would_show_it():
    normal = NormalDist()
    harm = Bounds(0.06, -0.04, 0.16, 5)
    needed = units_needed(harm, MARGIN)
    factor = 1 + normal.inv_cdf(0.95) / normal.inv_cdf(1 - FIRST_ALPHA)
    assert factor * 0.1 * math.sqrt(5 / needed) <= 0.1 < factor * 0.1 * math.sqrt(5 / (needed - 1))
    assert units_needed(Bounds(0.0, -0.1, 0.1, 7), Margin(accept=0.0, reject=0.1)) == 8


def test_hits_dealt_by_chance():
    # One hit of 4 + 6 items: in the group of four with chance 4/10. Two of two there: C(4,2)/C(10,2) = 6/45.
    assert exact_tail(1, 4, 0, 6) == pytest.approx(0.4)
    assert exact_tail(2, 4, 0, 6) == pytest.approx(6 / 45)
    # Two hits, one at least in the four: 1 - C(6,2)/C(10,2) = 1 - 15/45.
    assert exact_tail(1, 4, 1, 6) == pytest.approx(2 / 3)
    assert exact_tail(0, 4, 3, 6) == 1.0
