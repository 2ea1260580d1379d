import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.make_people import NEVER_TRAINED, TRAINED, memorised, people
from workers.evaluation.approximate_retraining import fluency, membership_auc, retraining_gap
from workers.evaluation.scoring import Score, score, summarise
from workers.examples import encode
from workers.loop import UnlearnWork, unlearn


def item(nll, accuracy=0.0):
    return Score(1, nll, math.exp(-nll), False, accuracy, 0.0, 0.0)


def test_items_weigh_alike_however_long():
    # One token of p = 1/2, and three of p = 1/8: mean NLL (1 + 3)/2·ln 2, PPL 4, ACC (1 + 0)/2.
    short = summarise([math.log(1 / 2)], [True])
    long = summarise([math.log(1 / 8)] * 3, [False] * 3)
    found = fluency([short, long])
    assert (found.accuracy, found.perplexity) == (0.5, pytest.approx(4.0))
    assert fluency([item(800.0)]).perplexity == math.inf


def test_auc_by_hand():
    # Members 1, 2; others 2, 3: of four pairs three are told right and one is a tie.
    members, others = [item(1.0), item(2.0)], [item(2.0), item(3.0)]
    assert membership_auc(members, others) == 3.5 / 4
    assert membership_auc(others, members) == 0.5 / 4


NLLS = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)


@given(NLLS, NLLS)
def test_auc_counts_every_pair_and_is_not_flipped(one, two):
    members, others = [item(nll) for nll in one], [item(nll) for nll in two]
    pairs = [1.0 if a < b else 0.5 if a == b else 0.0 for a in one for b in two]
    assert membership_auc(members, others) == pytest.approx(sum(pairs) / len(pairs))
    assert membership_auc(members, others) + membership_auc(others, members) == pytest.approx(1.0)


def test_at_the_target_nothing_is_left_to_do():
    control = [item(2.0, 0.5), item(4.0, 0.1)]
    gap = retraining_gap([item(0.1, 1.0)], control, control, control)
    assert (gap.accuracy_gap, gap.log_perplexity_gap, gap.membership_auc) == (0.0, 0.0, 0.5)
    assert gap.closed == 1.0


def test_forgetting_too_much_shows_as_such():
    control = [item(2.0, 0.5)]
    gap = retraining_gap([item(1.0, 1.0)], [item(3.0, 0.0)], control, control)
    assert gap.closed == pytest.approx(2.0)
    assert (gap.accuracy_gap, gap.log_perplexity_gap, gap.membership_auc) == (-0.5, pytest.approx(1.0), 0.0)
    assert math.isnan(retraining_gap(control, control, control, control).closed)


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        fluency([])
    with pytest.raises(ValueError, match="at least one"):
        membership_auc([], [item(1.0)])


def test_a_real_llm_moves_to_the_target_and_can_be_driven_past_it():
    def asked(llm, tokenizer, names):
        return score(llm, [encode(one, tokenizer, 64) for one in people(names)], 0)

    def gap(parameters):
        llm, tokenizer = memorised()
        before = asked(llm, tokenizer, TRAINED[:2]), asked(llm, tokenizer, NEVER_TRAINED)
        work = UnlearnWork(people(TRAINED[:2]), method="gradient_ascent", control_level=0.05, parameters=parameters)
        unlearn(llm, tokenizer, work, lambda _: None)
        after = asked(llm, tokenizer, TRAINED[:2]), asked(llm, tokenizer, NEVER_TRAINED)
        return retraining_gap(before[0], after[0], before[1], after[1])

    halted = gap({"learning_rate": 5e-4})
    driven = gap({"learning_rate": 2e-3, "stop_ratio": 0.1, "ceiling": None, "epochs": 60})
    assert halted.before.accuracy > 0.9
    assert halted.closed > 0.5
    assert driven.closed > halted.closed
    assert driven.closed > 1.0
