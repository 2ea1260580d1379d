"""The exact two-sample test against hand-counted paths, its closed form and published values; TOFU's own numbers from
the logs of its authors, where a copy is at hand.
"""

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.evaluation.tofu_logs import log
from workers.evaluation.forget_quality import forget_quality, model_utility, two_sample_ks
from workers.evaluation.truth_ratio import forget_truth_ratio, mean_probability, retain_truth_ratio, truth_ratio


def test_by_hand():
    # Two against one, D = 1 where the one is at an end: 2 of 3 orders.
    assert two_sample_ks([1.0, 2.0], [3.0]).statistic == 1.0
    assert two_sample_ks([1.0, 2.0], [3.0]).p_value == pytest.approx(2 / 3)
    # In the middle D is 1/2, and no order gives less.
    assert two_sample_ks([1.0, 3.0], [2.0]).p_value == 1.0
    # Three against three, apart: 2 of C(6, 3) = 20 orders.
    assert two_sample_ks([1, 2, 3], [4, 5, 6]).p_value == pytest.approx(0.1)


def test_the_same_sample_is_no_different():
    found = two_sample_ks([1.0, 2.0, 2.0], [1.0, 2.0, 2.0])
    assert (found.statistic, found.p_value) == (0.0, 1.0)


@given(st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=12)
def test_p_is_the_share_of_orders_at_least_as_far_apart(n, m):
    def samples(chosen):
        return [float(at) for at in chosen], [float(at) for at in range(n + m) if at not in chosen]

    orders = [two_sample_ks(*samples(chosen)) for chosen in combinations(range(n + m), n)]
    for one in orders:
        farther = sum(other.statistic >= one.statistic - 1e-12 for other in orders)
        assert one.p_value == pytest.approx(farther / len(orders))


@pytest.mark.parametrize(("n", "published"), [(200, 1.9e-119), (400, 1.1e-239)])
def test_samples_wholly_apart_have_the_published_p_value(n, published):
    """OpenUnlearning prints these for gradient ascent on forget05 and forget10; exactly, 2 / C(2n, n)."""
    found = two_sample_ks(range(n), range(n, 2 * n)).p_value
    assert found == pytest.approx(2 / math.comb(2 * n, n), rel=1e-9)
    assert found == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize("steps", [30, 45, 77])
def test_equal_sizes_have_a_closed_form(steps):
    """p = 2 Σ_k (-1)^(k-1) C(2n, n - k·h) / C(2n, n), h = n·D (Gnedenko and Koroluk 1951), in whole numbers."""
    n = 120
    found = two_sample_ks(range(n), [value + steps - 0.5 for value in range(n)])
    assert found.statistic == pytest.approx(steps / n)
    exact = 2 * sum((-1) ** (k - 1) * math.comb(2 * n, n - k * steps) for k in range(1, n // steps + 1))
    assert found.p_value == pytest.approx(exact / math.comb(2 * n, n), rel=1e-9)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="at least one value"):
        two_sample_ks([], [1.0])
    with pytest.raises(ValueError, match="not a number"):
        two_sample_ks([1.0, math.nan], [1.0])
    with pytest.raises(ValueError, match="negative"):
        model_utility([0.5, -0.1])


def test_model_utility_by_hand_and_as_published():
    assert model_utility([0.5, 0.25]) == pytest.approx(1 / 3)
    assert model_utility([0.5, 0.0]) == 0.0
    # The nine numbers of the row "Finetune Model" of TOFU's leaderboard, Llama-2-7B, and its Model Utility.
    retain = [0.9895272273969072, 0.9856545937933034, 0.47469858801063763]
    authors = [0.45548207783762884, 0.9329999999999999, 0.5962289157077106]
    world = [0.41856180755948974, 0.8824786324786325, 0.5390328416393139]
    assert model_utility([*retain, *authors, *world]) == pytest.approx(0.6226773637427153, rel=1e-12)


def ratios(read, average="published"):
    pairs = zip(read["avg_paraphrased_loss"], read["average_perturb_loss"], strict=True)
    return [truth_ratio(right, wrong, average) for right, wrong in pairs]


@pytest.mark.parametrize(
    ("run", "probability", "published", "paper"),
    [
        # Columns "Prob. Forget" and "Truth Ratio Forget" of TOFU's leaderboard; the last is of no published table.
        ("llama2-7b_full_wd0.01", 0.9909385566403213, 0.5159854212808592, 0.530370),
        ("llama2-7b_retain90_wd0.01", 0.14756281225669543, 0.6740192657877031, 0.679652),
        ("llama2-7b_retain95_wd0.01", 0.15471640862078476, 0.6741471180652673, 0.682764),
        ("llama2-7b_retain99_wd0.01", 0.17952115642162153, 0.6849411024079277, 0.696952),
        ("phi_full_wd0.01", 0.9282394842423192, 0.4833555856680227, 0.500555),
        ("phi_retain90_wd0.01", 0.13490696158672863, 0.6288417132144549, 0.641755),
    ],
)
def test_published_forget_numbers(run, probability, published, paper):
    read = log(f"{run}_forget")
    assert mean_probability(read["avg_gt_loss"]) == pytest.approx(probability, rel=1e-9)
    assert forget_truth_ratio(ratios(read)) == pytest.approx(published, rel=1e-9)
    assert forget_truth_ratio(ratios(read, "paper")) == pytest.approx(paper, abs=1e-6)


@pytest.mark.parametrize(
    ("run", "probability", "published"),
    [
        ("llama2-7b_full_wd0.01", 0.9895272273969072, 0.47469858801063763),
        ("llama2-7b_retain90_wd0.01", 0.9888967275083739, 0.47097713402452873),
        ("phi_full_wd0.01", 0.9260884160508502, 0.48268300832084604),
        ("phi_retain90_wd0.01", 0.9231140312552547, 0.4847391599677),
    ],
)
def test_published_retain_numbers(run, probability, published):
    read = log(f"{run}_retain")
    assert mean_probability(read["avg_gt_loss"]) == pytest.approx(probability, rel=1e-9)
    assert retain_truth_ratio(ratios(read)) == pytest.approx(published, rel=1e-9)


@pytest.mark.parametrize(
    ("model", "published"), [("llama2-7b", 1.834066410994743e-21), ("phi", 2.1942743021891237e-16)]
)
def test_published_forget_quality(model, published):
    trained, retrained = (ratios(log(f"{model}_{run}_wd0.01_forget")) for run in ("full", "retain90"))
    assert forget_quality(trained, retrained).p_value == pytest.approx(published, rel=1e-9)
    assert forget_quality(retrained, retrained).p_value == 1.0
