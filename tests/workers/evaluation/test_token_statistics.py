import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.make_llm import make_gpt2, make_llama
from workers.batches import Encoded
from workers.evaluation import token_statistics as module
from workers.evaluation.scoring import score, summarise
from workers.evaluation.token_statistics import (
    Decoding,
    decoding_log_probabilities,
    label_statistics,
    mean_and_deviation,
    token_statistics,
)

torch.set_num_threads(1)
LN2 = math.log(2)


def test_mean_and_deviation_by_hand():
    # p = 1/2, 1/4, 1/4: ln p = -1, -2, -2 in units of ln 2; μ = -3/2, σ² = 1/2·1/4 + 1/2·1/4 = 1/4.
    mean_N, deviation_N = mean_and_deviation(torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]).log())
    assert mean_N.tolist() == pytest.approx([-1.5 * LN2, 0.0])
    assert deviation_N.tolist() == pytest.approx([0.5 * LN2, 0.0])


def test_uniform_words_do_not_deviate():
    found = label_statistics(torch.zeros(1, 8), torch.tensor([3]))
    assert found.means_N.item() == pytest.approx(-3 * LN2)
    assert found.deviations_N.item() == pytest.approx(0.0, abs=1e-6)
    assert found.log_probabilities_N.item() == pytest.approx(-3 * LN2)


@pytest.mark.parametrize(
    ("decoding", "target", "expected"),
    [
        (Decoding(), 1, math.log(2 / 7)),  # weights 4, 2, 1
        (Decoding(temperature=0.5), 1, math.log(4 / 21)),  # squared: 16, 4, 1
        (Decoding(top_k=2), 1, math.log(2 / 6)),
        (Decoding(top_k=2), 2, -math.inf),
        (Decoding(temperature=0.5, top_k=1), 0, 0.0),
        (Decoding(top_k=50), 2, math.log(1 / 7)),
    ],
)
def test_decoding_by_hand(decoding, target, expected):
    logits_NV = torch.tensor([[4.0, 2.0, 1.0]]).log()
    found = decoding_log_probabilities(logits_NV, torch.tensor([target]), decoding)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_words_as_likely_as_the_last_kept_are_kept():
    found = decoding_log_probabilities(torch.tensor([[1.0, 0.0, 0.0, -9.0]]), torch.tensor([2]), Decoding(top_k=2))
    assert found.item() == pytest.approx(-math.log(math.e + 2), abs=1e-6)


def test_nonsense_decoding_is_refused():
    for wrong in ({"temperature": 0.0}, {"top_k": 0}):
        with pytest.raises(ValueError, match="top_k"):
            Decoding(**wrong)


@given(st.lists(st.integers(2, 12), min_size=1, max_size=5), st.integers(1, 4), st.integers(1, 7))
@settings(max_examples=15)
def test_agrees_with_the_score_and_with_the_equations(lengths, batch_rows, chunk):
    llm = make_llama()
    generator = torch.Generator().manual_seed(sum(lengths))
    rows = []
    for length in lengths:
        ids = torch.randint(3, 64, (length,), generator=generator).tolist()
        rows.append(Encoded(tuple(ids), (-100, *ids[1:])))
    items = [[row] for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_TOKENS", chunk)
        found = token_statistics(llm, items, 0, batch_rows=batch_rows)
    for row, one, expected in zip(rows, found, score(llm, items, 0), strict=True):
        got = summarise(one.log_probabilities, one.hits)
        assert got.nll == pytest.approx(expected.nll, abs=1e-5)
        assert (got.tokens, got.exact) == (expected.tokens, expected.exact)
        assert got.extraction_strength == expected.extraction_strength
        with torch.no_grad():
            logp_TV = llm(input_ids=torch.tensor([row.ids])).logits[0, :-1].double().log_softmax(1)
        mean_T = (logp_TV.exp() * logp_TV).sum(1)
        square_T = (logp_TV.exp() * logp_TV.square()).sum(1)
        assert one.means == pytest.approx(mean_T.tolist(), abs=1e-5)
        assert one.deviations == pytest.approx((square_T - mean_T.square()).sqrt().tolist(), abs=1e-4)
        assert one.decoded == pytest.approx(one.log_probabilities, abs=1e-5)


def test_windows_of_one_item_are_one_answer_in_its_order():
    llm = make_gpt2()
    first, second = Encoded((5, 6, 7, 9), (-100, 6, 7, 9)), Encoded((6, 7, 8), (-100, -100, 8))
    both, alone, rest = token_statistics(llm, [[first, second], [first], [second]], 0)
    assert both.log_probabilities == pytest.approx(alone.log_probabilities + rest.log_probabilities, abs=1e-5)


def test_an_item_without_a_label_is_named_by_its_ordinal():
    with pytest.raises(ValueError, match="item 1 has no token"):
        token_statistics(make_gpt2(), [[Encoded((5, 6), (-100, 6))], [Encoded((5, 6), (5, -100))]], 0)
