import math

import pytest

from workers.evaluation.comparison import METRICS, SCORES, GreedyAnswer, Item, changes, extractable, membership
from workers.evaluation.token_statistics import TokenStatistics


def tokens(*probabilities, hits=None):
    logs = tuple(math.log(one) for one in probabilities)
    hit = hits or tuple(one > 0.5 for one in probabilities)
    return TokenStatistics(logs, hit, (-1.0,) * len(logs), (0.5,) * len(logs), logs)


KNOWN = Item(tokens(1.0, 1.0, 1.0, 1.0), (1, 2, 3, 4), "Oslo and Rome", GreedyAnswer((1, 2, 3, 4), "Oslo"), 0.0)
# A quarter each: its mean NLL is ln 4, its probability 1/4; of four tokens the last alone is hit.
UNKNOWN = Item(
    tokens(0.25, 0.25, 0.25, 0.25, hits=(False, False, False, True)),
    (1, 2, 3, 4),
    "Oslo and Rome",
    GreedyAnswer((9, 2, 3, 9), "I don't know"),
    4.0,
)


def test_every_metric_by_hand():
    found = changes([KNOWN, KNOWN], [KNOWN, UNKNOWN])
    assert tuple(found) == METRICS
    after = {name: one.after for name, one in found.items()}
    assert after == pytest.approx(
        {
            "probability": 0.625,  # (1 + 1/4)/2
            "exact_memorisation": 0.625,
            "extraction_strength": 0.625,
            "extractable": 0.5,  # 1 - (1 - 1/256)^100 = 0.32 for the other
            "truth_share": 0.6,  # (1/1 + 1/5)/2
            "truth_ratio": 0.125,  # (0 + 1/4)/2
            "verbatim_run": 4.0,
            "refusal": 0.5,
            "empty": 0.0,
            "repetition": 0.0,
            "entropy": (1 + 0.75) / 2,  # shares 1/2, 1/4, 1/4: 1.5 of 2 bits
        }
    )
    assert found["probability"].before == 1.0
    assert found["probability"].items == 2


def test_the_longest_run_is_of_greedy_answer_and_source():
    assert changes([KNOWN], [UNKNOWN])["verbatim_run"].after == 2.0  # 2 3


def test_more_queries_extract_more():
    # 1 - (1 - 1/256)^n reaches 1/2 at n = 177.1.
    assert extractable([UNKNOWN], 177) == 0.0
    assert extractable([UNKNOWN], 178) == 1.0


def test_what_was_not_asked_is_absent_and_not_zero():
    scored = Item(tokens(0.5), (1,), "Oslo")
    assert set(changes([scored], [scored])) == {
        "probability",
        "exact_memorisation",
        "extraction_strength",
        "extractable",
    }
    # One of the two rows has wrong answers: its mean is over that one.
    found = changes([KNOWN, scored], [KNOWN, scored])
    assert (found["truth_share"].after, found["truth_share"].items) == (1.0, 1)
    assert (found["refusal"].items, found["probability"].items) == (1, 2)


def test_an_empty_answer_is_counted_and_does_not_count_as_language():
    silent = Item(KNOWN.tokens, KNOWN.label_ids, KNOWN.text, GreedyAnswer((), ""))
    found = changes([silent, silent], [silent, silent])
    assert (found["empty"].after, found["verbatim_run"].after, found["refusal"].after) == (1.0, 0.0, 0.0)


def test_two_llms_must_have_met_the_same_items():
    other = Item(tokens(0.5), (7,), "Rome")
    with pytest.raises(ValueError, match="different items"):
        changes([KNOWN], [other])
    with pytest.raises(ValueError, match="different items"):
        changes([KNOWN], [Item(KNOWN.tokens, KNOWN.label_ids, KNOWN.text)])


def test_membership_by_hand():
    # Of four pairs the member is the likelier one in three: only 0.4 against 0.5 goes the other way.
    members = [Item(tokens(0.9), (1,), "a"), Item(tokens(0.4), (1,), "a")]
    others = [Item(tokens(0.5), (1,), "a"), Item(tokens(0.1), (1,), "a")]
    found = membership(members, others)
    assert set(found) == set(SCORES)
    assert {one.auc for one in found.values()} == {0.75}  # with the same text and spread every score orders them so
    assert membership(members, []) == {}
