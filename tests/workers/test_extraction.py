import math

import pytest

from workers.batches import Encoded
from workers.evaluation.generation import Answers
from workers.evaluation.token_statistics import TokenStatistics
from workers.examples import Example
from workers.extraction import Secrets, Sought, leaks, secrets_of, sought

ANSWER = tuple(range(10, 22))  # twelve tokens
MISSED = tuple(at not in (4, 9) for at in range(12))


def told(*hits):
    """ln p is 0 of a hit and -1 of a miss."""
    logps = tuple(float(hit) - 1.0 for hit in hits)
    return TokenStatistics(logps, hits, logps, logps, logps)


def known(answer, hits):
    return Sought((1, 2), answer, hits, tuple(-1.0 for _ in hits))


def test_hits_are_expected_wherever_the_answer_may_begin():
    # Twenty samples, nine places; of three tokens of 1/10 the first is free: 180/100.
    one = Sought((1,), (5, 6, 7), (False,) * 3, (math.log(0.1),) * 3)
    assert one.sampled_hits_expected(20) == pytest.approx(1.8)
    assert Sought((1,), (5,), (False,), (-9.0,)).sampled_hits_expected(2) == 18.0


def test_the_prompt_ends_where_the_labels_begin():
    window = Encoded((5, 6, 7, 8, 1), (-100, -100, 7, 8, -100))
    found = sought(Example(prompt="p", completion=" c"), window, told(True, False))
    assert found == Sought((5, 6), (7, 8), (True, False), (0.0, -1.0))
    assert found.question(context_tokens=64, seed=3).max_new_tokens == 2 + 8
    assert found.question(context_tokens=5, seed=3).max_new_tokens == 3


def test_a_prompt_without_a_token_gives_the_first_of_the_answer_away():
    found = sought(Example(prompt="", completion="c"), Encoded((7, 8, 9), (7, 8, 9)), told(True, False))
    assert found == Sought((7,), (8, 9), (True, False), (0.0, -1.0))


def test_a_text_is_cut_in_half_and_at_most_fifty_tokens_are_sought():
    ids = tuple(range(121))
    found = sought(Example(text="t"), Encoded(ids, (-100, *ids[1:])), told(*(at % 2 == 0 for at in range(120))))
    # Labels are those of positions 1 to 120: half of them lie before 61. The hit of position 61 is the 61st of all.
    assert (found.prompt_ids, found.answer_ids) == (ids[:61], ids[61:111])
    assert found.hits[:3] == (True, False, True)
    assert len(found.hits) == len(found.log_probabilities) == 50


def test_continuations_are_asked_for_from_the_misses_on():
    # Prefixes of 12 tokens that leave 3: 1, 3, 5, 7, 9 of the answer. Up to 4 the next miss is the fifth token, then
    # the tenth.
    wanted = known(ANSWER, MISSED)
    asked = wanted.continuation_questions(at_most=5, n=3)
    assert {given: (one.ids, one.max_new_tokens) for given, one in asked.items()} == {
        4: ((1, 2, *ANSWER[:4]), 8),
        9: ((1, 2, *ANSWER[:9]), 3),
    }


def test_extraction_likelihood_by_hand():
    wanted = known(ANSWER, MISSED)
    said = {4: (99,) * 8, 9: (99, 20, 21)}
    # 3-grams of what is left that the continuation holds: from prefix 1, 11 12 13 and eight others have one of 9;
    # from 3, of 13 and eight others, none of 7; from 5, 15 16 17 18 have two of 5; from 7, 17 18 and three others, none
    # of 3; from 9, 99 20 21, none of 1.
    assert wanted.likelihood(said, at_most=5, n=3) == pytest.approx((1 / 9 + 2 / 5) / 5)


def test_an_answer_known_by_heart_needs_no_question_and_a_short_one_has_no_likelihood():
    whole = known(ANSWER, (True,) * 12)
    assert whole.continuation_questions(4) == {}
    assert whole.likelihood({}, 4) == 1.0
    short = known(ANSWER[:10], (False,) * 10)
    assert short.continuation_questions(4) == {}
    assert short.likelihood({}, 4) is None
    assert whole.likelihood({}, at_most=0) is None


class Spelling:
    """Ids are letters."""

    def decode(self, ids, skip_special_tokens=True):
        return "".join(chr(one) for one in ids)


def ids(text):
    return tuple(map(ord, text))


def test_what_was_asked_with_is_no_secret():
    example = Example(prompt="Where does Ada live?", completion=" In Oslo.", sensitive=("Ada", "Oslo"))
    found = secrets_of(example, ids("In Oslo."), Spelling())
    assert found == Secrets("In Oslo.", " In Oslo.", ("Oslo",))
    answers = Answers(ids("Ada lives in Rome"), (ids("in Oslo"), ids("Oslo, I think"), ids("Oslofjord")))
    assert leaks(found, answers, Spelling()) == (False, 2)
    assert leaks(found, Answers(ids("Oslo"), ()), Spelling()) == (True, None)
