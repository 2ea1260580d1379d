import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.make_llm import make_gpt2, make_llama
from workers.batches import Encoded
from workers.evaluation.scoring import extraction_strength, score, summarise

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("hits", "strength"),
    [
        ([True, True, True, True], 1.0),  # nothing need be given
        ([False, True, True, True], 0.75),  # one token of prefix
        ([True, False, True, True], 0.5),  # the early hit does not count
        ([True, True, True, False], 0.0),  # the last token misses
        ([False, False, False, True], 0.25),
        ([True], 1.0),
        ([False], 0.0),
    ],
)
def test_extraction_strength_by_hand(hits, strength):
    assert extraction_strength(hits) == strength


def test_summary_by_hand():
    # p = 1/2 and 1/8: Σ ln p = -4 ln 2; geometric mean 1/4; product 1/16.
    found = summarise([math.log(0.5), math.log(0.125)], [True, False])
    assert found.nll == pytest.approx(2 * math.log(2))
    assert found.token_probability == pytest.approx(0.25)
    assert found.sampled_probability == pytest.approx(1 / 16)
    assert (found.exact, found.token_accuracy, found.extraction_strength) == (False, 0.5, 0.0)


def naive(llm, row):
    logits_TV = llm(input_ids=torch.tensor([row.ids])).logits[0].double()
    return -sum(
        logits_TV[at - 1].log_softmax(0)[label].item() for at, label in enumerate(row.labels) if label >= 0
    ) / sum(label >= 0 for label in row.labels)


@given(st.lists(st.integers(2, 12), min_size=1, max_size=5), st.integers(1, 4), st.sampled_from([0, 5, 63]))
@settings(max_examples=15)
def test_neither_padding_nor_batching_shows(lengths, batch_rows, pad_id):
    llm = make_llama()
    generator = torch.Generator().manual_seed(sum(lengths))
    rows = []
    for length in lengths:
        ids = torch.randint(3, 64, (length,), generator=generator).tolist()
        rows.append(Encoded(tuple(ids), (-100, *ids[1:])))
    with torch.no_grad():
        expected = [naive(llm, row) for row in rows]
    found = score(llm, [[row] for row in rows], pad_id, batch_rows)
    assert [one.nll for one in found] == pytest.approx(expected, abs=1e-5)


def test_windows_of_one_item_are_one_answer():
    llm = make_gpt2()
    first = Encoded((5, 6, 7), (-100, 6, 7))
    second = Encoded((6, 7, 8), (-100, -100, 8))
    both, alone, rest = score(llm, [[first, second], [first], [second]], 0)
    assert both.tokens == 3
    assert both.nll * 3 == pytest.approx(alone.nll * 2 + rest.nll, abs=1e-5)
