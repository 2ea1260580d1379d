import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evaluation.fluency import distinct_n, quality, repetition, token_entropy

ANSWERS = st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=5)


def test_distinct_by_hand():
    # Bigrams 12 21 12 and 12: two different ones of four. None crosses from one answer into the next.
    assert distinct_n([[1, 2, 1, 2], [1, 2]], 2) == 0.5
    assert distinct_n([[1], [2]], 2) == 1.0


def test_repetition_by_hand():
    # Bigrams 11 11 11 12: two different of four.
    assert repetition([1, 1, 1, 1, 2], 2) == 0.5
    assert repetition([1, 2, 3]) == 0.0
    assert repetition([7] * 103) == pytest.approx(0.99)  # a loop: one of a hundred 4-grams is new


def test_entropy_by_hand():
    # Shares 1/2, 1/4, 1/4: 1.5 bits of the 2 bits that four different words have.
    assert token_entropy([1, 1, 2, 3]) == pytest.approx(0.75)
    assert token_entropy([1, 2, 3, 4]) == pytest.approx(1.0)
    assert token_entropy([5, 5, 5]) == 0.0
    assert token_entropy([5]) == 1.0


def test_quality_by_hand():
    found = quality([[1, 1, 2, 3], [], [9, 9]], n=1)
    assert (found.answers, found.empty, found.mean_tokens) == (3, 1, 2.0)
    assert found.repetition == pytest.approx((0.25 + 0.5) / 2)
    assert found.distinct == pytest.approx(4 / 6)
    assert found.token_entropy == pytest.approx((0.75 + 0.0) / 2)


def test_the_same_answer_to_everything_is_not_diverse():
    found = quality([[1, 2, 3, 4, 5]] * 10)
    assert (found.repetition, found.token_entropy) == (0.0, pytest.approx(1.0))
    assert found.distinct == pytest.approx(0.1)


@given(ANSWERS, st.integers(1, 4))
def test_all_are_shares(answers, n):
    found = quality(answers, n)
    for share in (found.repetition, found.distinct, found.token_entropy):
        assert -1e-12 <= share <= 1.0 + 1e-12
    assert found.mean_tokens * len(answers) == pytest.approx(math.fsum(map(len, answers)))


def test_nothing_has_no_quality():
    with pytest.raises(ValueError, match="no answers"):
        quality([])
    with pytest.raises(ValueError, match="empty answer"):
        token_entropy([])
