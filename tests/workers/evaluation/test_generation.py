from functools import partial

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from tests.make_architectures import make_architecture
from tests.make_llm import make_gpt2, make_llama
from tests.make_people import memorised, people
from workers.errors import Unsuitable
from workers.evaluation import generation
from workers.evaluation.generation import Question, _parted, contains, decode

torch.set_num_threads(1)
# Gemma 4's layers differ in their widths, most of Qwen 3 Next's have no attention, MiniMax has a cache of its own.
MADE = {name: partial(make_architecture, name) for name in ("gemma4", "qwen3_next", "minimax")}
MADE |= {"llama": make_llama, "gpt2": make_gpt2}


@pytest.mark.parametrize(
    ("answer", "wanted", "found"),
    [
        ("She lives in  New\n York.", "New York", True),
        ("She lives in Newark", "New", False),  # inside a longer word
        ("room 12", "1", False),
        ("room 12", "12", True),
        ("new york", "New York", False),  # exact means exact
        ("a+b (c)", "a+b (c)", True),  # no regular expression in it
        ("anything", "  ", False),
        ("he is Jose\u0301", "Jos\u00e9", True),  # two characters, and one
        ("\u5348\u5f8c\uff14\uff15\uff16", "456", True),
    ],
)
def test_contains(answer, wanted, found):
    assert contains(answer, wanted) is found


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_greedy_is_the_repeated_argmax(make):
    llm = make()
    prompts = [(5, 6, 7, 8, 9), (11,), (20, 21)]
    found = decode(llm, [Question(p, 6) for p in prompts], samples=2, stop_ids=[2], pad_id=0)
    for prompt, answers in zip(prompts, found, strict=True):
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(6):
                ids.append(int(llm(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        expected = ids[len(prompt) :]
        expected = expected[: expected.index(2)] if 2 in expected else expected
        assert list(answers.greedy) == expected


def test_an_llm_without_a_cache_is_refused_in_words():
    config = MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)
    with pytest.raises(Unsuitable, match="MambaForCausalLM keeps nothing"):
        decode(MambaForCausalLM(config).eval(), [Question((5, 6), 2)], samples=0, stop_ids=[2], pad_id=0)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_answers_do_not_depend_on_the_batch(make):
    llm = make()
    questions = [Question((5, 6, 7), 5, seed=1), Question((9,), 8, seed=2), Question((3, 4, 5, 6, 7), 3, seed=3)]
    together = decode(llm, questions, samples=4, stop_ids=[2], pad_id=0)
    alone = [decode(llm, [one], samples=4, stop_ids=[2], pad_id=0)[0] for one in questions]
    assert together == alone
    assert all(len(one.greedy) <= question.max_new_tokens for one, question in zip(together, questions, strict=True))


@pytest.mark.parametrize(("budget", "share", "rows"), [(10_000, 0.0, 4), (100, 0.0, 1), (100, 1.0, None)])
def test_rows_that_fit_by_hand(monkeypatch, budget, share, rows):
    # Keys and values of 2 layers, 16 wide, 4 tokens, 4 bytes: 1024; four fp32 rows of 64 words: 1024. In all 2048.
    llm = make_llama(vocabulary=64, width=32, layers=2)
    held = sum(one.numel() * 4 for one in llm.parameters())
    monkeypatch.setattr(generation, "CACHE_BYTES", {False: budget, True: 0})
    monkeypatch.setattr(generation, "CACHE_SHARE", share)
    assert generation._rows_that_fit(llm, 4) == (rows if not share else held // 2048)


def test_answers_are_one_row_until_they_part():
    # Of the first row's three answers two say 7 and one 9; the second row's says 7 too, after other words.
    parents_U, next_U, row_A = _parted(torch.tensor([0, 0, 0, 1]), torch.tensor([9, 7, 7, 7]))
    assert (parents_U.tolist(), next_U.tolist(), row_A.tolist()) == ([0, 0, 1], [7, 9, 7], [1, 0, 0, 2])


@pytest.mark.parametrize("make", [make_llama, make_gpt2])
def test_every_sampled_word_is_the_one_at_its_quantile_of_what_was_said(make):
    llm = make()
    (answers,) = decode(llm, [Question((5, 6), 6, seed=4)], samples=8, stop_ids=[2], pad_id=0)
    uniform_SL = torch.rand(8, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for line, uniform_L in zip(answers.sampled, uniform_SL.tolist(), strict=True):
        for at, (word, uniform) in enumerate(zip(line, uniform_L, strict=False)):
            with torch.no_grad():
                p_V = llm(input_ids=torch.tensor([[5, 6, *line[:at]]])).logits[0, -1].softmax(0).double()
            before, after = p_V[:word].sum().item(), p_V[: word + 1].sum().item()
            assert before - 1e-5 <= uniform <= after + 1e-5


def test_samples_follow_the_distribution():
    llm = make_llama()
    with torch.no_grad():
        expected_V = llm(input_ids=torch.tensor([[5, 6]])).logits[0, -1].softmax(0)
    (answers,) = decode(llm, [Question((5, 6), 1)], samples=4000, stop_ids=[], pad_id=0)
    counts_V = torch.bincount(torch.tensor([line[0] for line in answers.sampled]), minlength=64)
    # Every word within five standard deviations of its share.
    spread_V = (expected_V * (1 - expected_V) / 4000).sqrt()
    assert ((counts_V / 4000 - expected_V).abs() < 5 * spread_V + 1e-3).all()


def test_same_seed_same_samples_other_seed_others():
    llm = make_llama()
    first, again, other = (
        decode(llm, [Question((5, 6), 6, seed=seed)], samples=3, stop_ids=[], pad_id=0)[0] for seed in (1, 1, 2)
    )
    assert first == again
    assert first.sampled != other.sampled


def test_a_memorised_answer_is_generated_and_stops_there():
    llm, tokenizer = memorised()
    person = people(["Ada"])[0]
    ids = tuple(tokenizer(person.prompt)["input_ids"])
    (answers,) = decode(llm, [Question(ids, 12)], samples=5, stop_ids=[2], pad_id=0)
    for line in (answers.greedy, *answers.sampled):
        assert tokenizer.decode(list(line)) == person.completion.strip()
