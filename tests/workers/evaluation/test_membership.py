import math
import random
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.make_llm import make_llama
from tests.make_people import NEVER_TRAINED, TRAINED, memorised, people
from tests.workers.evaluation.tofu_logs import log
from workers.evaluation.membership import (
    attack,
    auc,
    loss_score,
    min_k_plus_plus_score,
    min_k_score,
    reference_score,
    true_positive_rate,
    zlib_score,
)
from workers.evaluation.memorisation import queries_needed
from workers.evaluation.token_statistics import token_statistics
from workers.examples import encode

torch.set_num_threads(1)
SCORES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)


def test_loss_zlib_and_reference_by_hand():
    assert loss_score([-1.0, -3.0]) == 2.0
    assert reference_score([-1.0, -3.0], [-2.5]) == -0.5
    # 400 times one letter fold up into few bytes: as unlikely, but for no language, it scores higher.
    varied = "".join(random.Random(1).choices("abcdefghijklmnop", k=400))
    assert zlib_score([-2.0], "a" * 400) > zlib_score([-2.0], varied)
    assert zlib_score([-2.0], "ä") == 2.0 / len(zlib.compress("ä".encode()))


def test_min_k_by_hand():
    # 40 % of five tokens are two: -4 and -3.
    logp = [-1.0, -4.0, -0.5, -3.0, -2.0]
    assert min_k_score(logp) == 3.5
    assert min_k_score(logp, 1.0) == loss_score(logp)
    assert min_k_score(logp, 0.01) == 4.0  # one at least
    assert min_k_score([-float(t) for t in range(100)], 0.29) == sum(range(71, 100)) / 29


def test_min_k_plus_plus_by_hand():
    # (ln p - μ)/σ: (-1+2)/2 = 0.5, (-4+1)/1.5 = -2, (-2+2)/1 = 0. The lowest of three at 40 % is one.
    assert min_k_plus_plus_score([-1.0, -4.0, -2.0], [-2.0, -1.0, -2.0], [2.0, 1.5, 1.0]) == 2.0
    assert min_k_plus_plus_score([-1.0, -4.0, -2.0], [-2.0, -1.0, -2.0], [2.0, 1.5, 1.0], 1.0) == 0.5
    # A word as sure as sure: σ is floored, not divided by.
    assert min_k_plus_plus_score([0.0], [0.0], [0.0]) == 0.0
    with pytest.raises(ValueError, match="zip"):
        min_k_plus_plus_score([0.0], [0.0, 1.0], [0.0])


def test_auc_by_hand():
    # Members 1, 2; others 2, 3: three pairs of four are told right, one is a tie.
    assert auc([1.0, 2.0], [2.0, 3.0]) == 3.5 / 4
    assert auc([2.0, 3.0], [1.0, 2.0]) == 0.5 / 4  # too unlikely shows as such


@given(SCORES, SCORES)
def test_auc_counts_every_pair(members, others):
    pairs = [1.0 if a < b else 0.5 if a == b else 0.0 for a in members for b in others]
    assert auc(members, others) == pytest.approx(sum(pairs) / len(pairs))
    assert auc(members, others) + auc(others, members) == pytest.approx(1.0)


def test_rate_at_false_positives_by_hand():
    # Others 1 … 20. At 5 % one may be accused, 1: the threshold is 2, below it lie 0 and 1.5.
    others = [float(value) for value in range(1, 21)]
    members = [0.0, 1.5, 2.0, 30.0]
    assert true_positive_rate(members, others, 0.05) == 0.5
    assert true_positive_rate(members, others, 0.0) == 0.25
    # Two equal lowest others are accused together, which is one too many.
    assert true_positive_rate([1.0, 0.5], [1.0, 1.0, *others[2:]], 0.05) == 0.5


@given(SCORES, SCORES, st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5]))
def test_no_threshold_within_the_rate_tells_more(members, others, rate):
    def told(scores, threshold):
        return sum(one <= threshold for one in scores) / len(scores)

    allowed = [-1.0, *(t for t in {*members, *others} if told(others, t) <= rate)]
    best = max(told(members, threshold) for threshold in allowed)
    assert true_positive_rate(members, others, rate) == best


def test_attack_says_which_rates_the_non_members_resolve():
    chance = random.Random(3)
    members, others = ([chance.gauss(0.0, 1.0) for _ in range(1000)] for _ in range(2))
    found = attack(members, others)
    assert [one.false_positive_rate for one in found.at_low_false_positives] == [0.001, 0.01, 0.05]
    assert [one.resolved for one in found.at_low_false_positives] == [False, True, True]
    # Nobody can tell: the rate told is the rate accused. Standard error of the AUC 0.013, of the rate 0.01.
    assert found.auc == pytest.approx(0.5, abs=0.05)
    assert found.at_low_false_positives[2].true_positive_rate == pytest.approx(0.05, abs=0.04)
    shifted = attack([one - 10.0 for one in members], others)
    assert (shifted.auc, shifted.at_low_false_positives[0].true_positive_rate) == (1.0, 1.0)


def test_rows_learnt_by_heart_are_told_from_the_same_rows_never_seen():
    """300 TOFU answers under Llama-2-7B: of a run on all of them, and of one that never saw them."""
    trained, never, again = (
        log(f"llama2-7b_{run}_forget")["avg_gt_loss"] for run in ("full_wd0.01", "retain90_wd0.01", "retain90_wd0")
    )
    found = attack(trained, never)
    assert found.auc == pytest.approx(0.997, abs=5e-4)
    assert found.at_low_false_positives[2].true_positive_rate > 0.98
    assert attack(again, never).auc == pytest.approx(0.5, abs=0.05)


def test_every_score_tells_what_a_real_llm_has_learnt_by_heart():
    llm, tokenizer = memorised()
    untrained = make_llama(vocabulary=64, width=64, layers=2, spread=0.15).eval()
    scores = []
    for names in (TRAINED, NEVER_TRAINED):
        rows = people(names)
        items = [encode(row, tokenizer, 64) for row in rows]
        read, reference = (token_statistics(one, items, 0) for one in (llm, untrained))
        triples = list(zip(rows, read, reference, strict=True))
        scores.append(
            [
                [loss_score(one.log_probabilities) for one in read],
                [zlib_score(one.log_probabilities, row.completion) for row, one, _ in triples],
                [min_k_score(one.log_probabilities) for one in read],
                [min_k_plus_plus_score(one.log_probabilities, one.means, one.deviations) for one in read],
                [reference_score(one.log_probabilities, other.log_probabilities) for _, one, other in triples],
            ]
        )
        if names is TRAINED:
            assert all(queries_needed(one.decoded) == 1.0 for one in read)
    for members, others in zip(*scores, strict=True):
        assert attack(members, others).auc > 0.9


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        auc([], [1.0])
    with pytest.raises(ValueError, match="a number"):
        auc([math.nan], [1.0])
    with pytest.raises(ValueError, match="below 1"):
        true_positive_rate([1.0], [1.0], 1.0)
    with pytest.raises(ValueError, match="at most 1"):
        min_k_score([-1.0], 1.5)
