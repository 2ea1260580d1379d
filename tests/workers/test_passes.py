"""Reading a teacher and asking what is known hold fewer rows where a step does, and find the same."""

import pytest
import torch

from tests.make_llm import make_llama
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from workers.batches import Encoded, Row, collate, cut
from workers.evaluation.scoring import score
from workers.examples import Example
from workers.fit import ROWS_FOR_ONE
from workers.loop import UnlearnWork, unlearn

torch.set_num_threads(1)

FORGET, RETAIN = people(TRAINED[:1]), both_phrasings(people(TRAINED[1:]))
CONTROL = people(NEVER_TRAINED)
LONG = Example("Where does Bo live ?", " in Oslo" * 12)
SETTINGS = {"learning_rate": 1e-3, "epochs": 4, "rewordings": 3, "stop_level": "own"}


def row(key, length):
    return Row(key, Encoded(tuple(range(3, 3 + length)), (-100, *range(4, 3 + length))))


def test_a_batch_of_more_tokens_is_cut_and_stays_as_wide():
    batch = collate([row(at, length) for at, length in enumerate((9, 2, 3, 8, 3))], 0)
    for most_tokens, rows in ((None, [5]), (45, [5]), (44, [4, 1]), (18, [2, 2, 1]), (3, [1] * 5)):
        parts = cut(batch, most_tokens)
        assert [len(part.keys) for part in parts] == rows
        assert torch.equal(torch.cat([part.ids_BT for part in parts]), batch.ids_BT)


def test_scores_of_a_cut_batch_are_those_of_the_whole():
    llm, items = make_llama(), [[row(0, length).encoded] for length in (4, 9, 9, 5, 20)]
    whole, cut = score(llm, items, 0), score(llm, items, 0, most_tokens=12)
    assert [one.nll for one in cut] == pytest.approx([one.nll for one in whole], abs=1e-5)


def unlearnt(parameters):
    """(tokens of every pass without gradients, the LLM)"""
    llm, tokenizer = memorised()
    tokens = []

    def count(_llm, _args, given):
        if not torch.is_grad_enabled():
            tokens.append(given["input_ids"].numel())

    llm.base_model.register_forward_pre_hook(count, with_kwargs=True)
    work = UnlearnWork(FORGET, [*RETAIN, LONG], control=CONTROL, control_level=0.05, parameters=SETTINGS | parameters)
    unlearn(llm, tokenizer, work, lambda _: None)
    return tokens, llm


@pytest.mark.parametrize("micro", [1, 2])
def test_no_pass_takes_more_than_a_steps_examples_allow(micro):
    longest = 1 + 6 + 24 + 1  # the start, the question, the answer, the end
    tokens, _ = unlearnt({"micro_batch_size": micro})
    assert max(tokens) <= ROWS_FOR_ONE * micro * longest
    assert max(unlearnt({})[0]) > ROWS_FOR_ONE * micro * longest


def test_the_weights_are_the_same_bits_however_the_passes_are_cut(monkeypatch):
    _, cut = unlearnt({"micro_batch_size": 1})
    for module in ("workers.training_run", "workers.loop"):
        monkeypatch.setattr(f"{module}.pass_tokens", lambda *_: 10**9)
    tokens, whole = unlearnt({"micro_batch_size": 1})
    assert max(tokens) > ROWS_FOR_ONE * 32
    for one, other in zip(cut.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)
