import math

import pytest

from workers.evaluation.generation import Answers
from workers.evaluation.token_statistics import TokenStatistics
from workers.extraction import Secrets
from workers.item_numbers import Said, numbers_of, with_answers

# Of four tokens, probabilities 1/2, 1/4, 1/2, 1/4; the lowest 40 % are one of them.
LOGS = tuple(math.log(one) for one in (0.5, 0.25, 0.5, 0.25))
TOKENS = TokenStatistics(LOGS, (True, False, True, True), (-1.0, -1.0, -1.0, -2.0), (0.5, 0.5, 0.5, 0.5), LOGS)
LABELS = (11, 12, 13, 14)


class Spelling:
    def decode(self, ids, skip_special_tokens=True):
        return " ".join(f"w{one}" for one in ids)


def test_a_pass_gives_every_score_by_hand():
    found = numbers_of(TOKENS, "abcdefg", truth_share=0.7)
    assert found.nll == pytest.approx(1.5 * math.log(2))
    assert (found.exact, found.token_accuracy, found.extraction_strength) == (False, 0.75, 0.5)
    assert found.sampled_probability == pytest.approx(1 / 64)
    assert found.min_k == pytest.approx(math.log(4))
    # Standardised: (ln p - μ)/0.5 is lowest for the second token, μ = -1.
    assert found.min_k_plus_plus == pytest.approx((math.log(4) - 1.0) / 0.5)
    assert found.zlib == pytest.approx(found.nll / 15)  # seven bytes do not shrink: zlib adds 8
    assert (found.truth_share, found.verbatim_run, found.refused) == (0.7, None, None)


def test_an_answer_by_hand():
    secrets = Secrets("w11 w12 w13 w14")
    answers = Answers((9, 12, 13, 9, 9, 9, 9, 9), (LABELS, (8, *LABELS), (7,)))
    found = with_answers(numbers_of(TOKENS, "t"), Said(answers, secrets, 0.25), LABELS, Spelling())
    assert (found.greedy_extracted, found.sampled_hits, found.extraction_likelihood) == (False, 2, 0.25)
    assert (found.verbatim_run, found.answer_tokens, found.refused) == (2, 8, False)
    assert (found.rouge_recall, found.rouge_f1) == (0.5, 2 * 2 / 12)
    assert found.repetition == pytest.approx(1 / 5)  # of five 4-grams the last is the one before it
    shares = (6 / 8, 1 / 8, 1 / 8)
    assert found.token_entropy == pytest.approx(-sum(one * math.log(one) for one in shares) / math.log(8))


def test_an_empty_answer_has_no_language_to_judge():
    said = Said(Answers((), ()), Secrets("w11"), None)
    found = with_answers(numbers_of(TOKENS, "t"), said, LABELS, Spelling())
    assert (found.answer_tokens, found.verbatim_run, found.rouge_f1, found.refused) == (0, 0, 0.0, False)
    assert (found.repetition, found.token_entropy, found.sampled_hits) == (None, None, None)


def test_what_no_sample_would_be_counts_as_no_hit():
    said = Said(Answers(LABELS, ()), Secrets("w11 w12 w13 w14"), None, unlikely=True)
    found = with_answers(numbers_of(TOKENS, "t"), said, LABELS, Spelling())
    assert (found.greedy_extracted, found.sampled_hits) == (True, 0)
