import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evaluation.memorisation import (
    exact_memorisation,
    extraction_likelihood,
    extraction_probability,
    longest_verbatim_run,
    ngrams,
    overlap,
    prefix_lengths,
    queries_needed,
)

TOKENS = st.lists(st.integers(0, 3), max_size=12)


def test_exact_memorisation_by_hand():
    assert exact_memorisation([True, False, True, True]) == 0.75
    with pytest.raises(ValueError, match="at least one token"):
        exact_memorisation([])


def test_overlap_by_hand():
    # Bigrams of 1 2 1 2: 12, 21, 12. In 3 1 2 stands 12 alone: two of three.
    assert overlap([1, 2, 1, 2], [3, 1, 2], 2) == pytest.approx(2 / 3)
    assert overlap([3, 1, 2], [1, 2, 1, 2], 2) == 0.5  # it is not symmetric
    assert overlap([1], [1, 2], 2) == 0.0
    assert ngrams([7, 8, 9], 2) == [(7, 8), (8, 9)]
    with pytest.raises(ValueError, match="at least one token"):
        ngrams([1], 0)


def test_extraction_likelihood_by_hand():
    # Text 1 2 3 4 5, n = 2, so t = 1, 2, 3. After t = 1: 2 3 9 9 has bigrams 23, 39, 99, one of three in 2345;
    # after 2: 3 4 5 has all; after 3: 9 4 has none.
    text = [1, 2, 3, 4, 5]
    assert prefix_lengths(5, 2, 99) == [1, 2, 3]
    found = extraction_likelihood(text, {1: [2, 3, 9, 9], 2: [3, 4, 5], 3: [9, 4]}, 2)
    assert found == pytest.approx((1 / 3 + 1 + 0) / 3)
    # Read up to the end of the text only: what is said after it counts neither way.
    assert extraction_likelihood(text, {2: [3, 4, 5, 8, 8, 8]}, 2) == 1.0
    assert extraction_likelihood(text, {2: [3]}, 2) == 0.0


def test_prefixes_are_spread_over_the_text():
    assert prefix_lengths(12, 2, 4) == [1, 4, 7, 10]
    assert prefix_lengths(12, 2, 1) == [5]
    with pytest.raises(ValueError, match="more than 10"):
        prefix_lengths(10, 10, 1)
    with pytest.raises(ValueError, match="leave 3"):
        extraction_likelihood([1, 2, 3, 4], {2: [3]}, 3)


@given(st.lists(st.integers(), min_size=4, max_size=10), st.integers(1, 3))
def test_a_text_recited_whole_has_likelihood_one(ids, n):
    recited = {t: ids[t:] for t in prefix_lengths(len(ids), n, 3)}
    assert extraction_likelihood(ids, recited, n) == 1.0


def test_longest_run_by_hand():
    assert longest_verbatim_run([9, 2, 3, 4, 9, 1, 2], [1, 2, 3, 4, 5]) == 3
    assert longest_verbatim_run([1, 2, 9, 3, 4], [1, 2, 3, 4]) == 2  # a gap breaks it
    assert longest_verbatim_run([], [1]) == longest_verbatim_run([1], []) == 0


@given(TOKENS, TOKENS)
def test_longest_run_is_the_longest_common_slice(one, two):
    def slices(ids):
        return {tuple(ids[a:b]) for a in range(len(ids)) for b in range(a + 1, len(ids) + 1)}

    common = slices(one) & slices(two)
    assert longest_verbatim_run(one, two) == longest_verbatim_run(two, one) == max(map(len, common), default=0)


def test_extraction_probability_by_hand():
    # p_z = 1/2 · 1/2; in two answers 1 - (3/4)².
    logp = [math.log(0.5)] * 2
    assert extraction_probability(logp, 1) == pytest.approx(0.25)
    assert extraction_probability(logp, 2) == pytest.approx(7 / 16)
    assert extraction_probability([0.0, 0.0], 3) == 1.0
    assert extraction_probability([0.0, -math.inf], 10**9) == 0.0
    assert extraction_probability([math.log(1e-18)], 10**6) == pytest.approx(1e-12)  # 1 - p_z rounds to 1 here


def test_queries_needed_by_hand():
    assert queries_needed([math.log(0.5)]) == 1.0
    assert queries_needed([math.log(0.5)], 0.75) == 2.0
    assert queries_needed([math.log(0.5)], 0.76) == 3.0
    # ln 2 / 1e-9, rounded up.
    assert queries_needed([math.log(1e-9)]) == pytest.approx(693_147_181, abs=1)
    assert queries_needed([-1000.0]) == math.inf
    assert queries_needed([0.0]) == 1.0
    assert queries_needed([math.log(0.999)], 0.001) == 1.0


@given(st.floats(1e-6, 0.999), st.floats(0.01, 0.99))
def test_queries_needed_are_enough_and_not_one_too_many(p_z, wanted):
    logp = [math.log(p_z)]
    queries = int(queries_needed(logp, wanted))
    assert extraction_probability(logp, queries) >= wanted - 1e-9
    if queries > 1:
        assert extraction_probability(logp, queries - 1) < wanted + 1e-9


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="one query"):
        extraction_probability([-1.0], 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        queries_needed([-1.0], 1.0)
    with pytest.raises(ValueError, match="at least one token"):
        extraction_probability([], 1)
