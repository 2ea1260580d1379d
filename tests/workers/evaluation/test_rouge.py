import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evaluation.rouge import RougeL, longest_common_subsequence, rouge_l, words


@pytest.mark.parametrize(
    ("some", "others", "length"),
    [
        ("abcbdab", "bdcaba", 4),  # bcba, the textbook's pair (Cormen et al., ch. 15)
        ("abc", "abc", 3),
        ("abc", "cba", 1),
        ("axbxc", "abc", 3),
        ("", "abc", 0),
        ("aaa", "a", 1),
    ],
)
def test_longest_common_subsequence_by_hand(some, others, length):
    assert longest_common_subsequence(some, others) == length


def test_rouge_l_by_hand():
    # Common, in order: was born in rome = 4; wanted 5 words, said 8. F1 = 2·4/(5 + 8).
    found = rouge_l("I think that Ada was born in Rome", "He was born in Rome.")
    assert found == RougeL(4 / 5, 8 / 13)
    assert rouge_l("Rome in born was he", "he was born in Rome") == RougeL(1 / 5, 1 / 5)
    assert rouge_l("", "Rome") == rouge_l("...", "Rome") == RougeL(0.0, 0.0)


def test_words_are_letters_and_digits_of_any_script():
    assert words("Zoë's 2nd_house, 東京!") == ["zoë", "s", "2nd", "house", "東京"]


@given(st.text(alphabet="ab ", max_size=12), st.text(alphabet="ab ", max_size=12))
def test_it_is_a_share_and_f1_lies_between_recall_and_precision(answer, wanted):
    forth, back = rouge_l(answer, wanted), rouge_l(wanted, answer)
    assert forth.f1 == pytest.approx(back.f1)  # the recall of the one is the precision of the other
    low, high = sorted((forth.recall, back.recall))
    assert 0.0 <= low <= forth.f1 + 1e-12
    assert forth.f1 - 1e-12 <= high <= 1.0
