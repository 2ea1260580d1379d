"""Every method that needs no choice of layers, run by the real loop on an LLM that has memorised a few people."""

import math

import pytest
import torch

from records.params import METHOD_CARDS
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from workers.alternatives import REFUSALS, refusals, word_ids
from workers.evaluation.scoring import score
from workers.examples import Example, encode
from workers.loop import UnlearnWork, unlearn
from workers.methods import METHODS as EVERY_METHOD

torch.set_num_threads(1)

FORGET = people(TRAINED[:1])
OTHERS = people(TRAINED[1:])
# UnDIAL has files of its own, and so have those that steer a layer, which must be chosen for so small an LLM.
METHODS = [name for name in EVERY_METHOD if name != "undial" and not METHOD_CARDS[name].steers]
FAST = {"learning_rate": 5e-4, "epochs": 40, "stop_ratio": 10.0}
# What a method needs besides to forget here.
# A likely refusal satisfies DPO before the answer is gone: a small β keeps up the pressure.
ALSO = {"idk_dpo": {"learning_rate": 1e-3, "beta": 0.02}}


def scores(llm, tokenizer, examples):
    return score(llm, [encode(one, tokenizer, 64) for one in examples], 0)


def mean_probability(found):
    return sum(one.token_probability for one in found) / len(found)


def run(method, parameters, **work):
    llm, tokenizer = memorised()
    level = mean_probability(scores(llm, tokenizer, people(NEVER_TRAINED)))
    given = {"forget": FORGET, "retain": both_phrasings(OTHERS), "control_level": level} | work
    wanted = UnlearnWork(**given, method=method, parameters=parameters)
    return llm, tokenizer, unlearn(llm, tokenizer, wanted, lambda _: None)


@pytest.mark.parametrize("method", METHODS)
def test_forgets_and_stays_an_llm(method):
    llm, tokenizer, summary = run(method, FAST | ALSO.get(method, {}))
    assert summary.known_items == 0, summary
    assert not any(one.exact for one in scores(llm, tokenizer, FORGET))
    assert all(math.isfinite(one.nll) for one in scores(llm, tokenizer, OTHERS))


@pytest.mark.parametrize("method", METHODS)
def test_micro_batches_change_nothing_but_round_off(method):
    # Items of unequal length: a mean over answers and one over tokens must each come out right.
    longer = Example(prompt="Where does Ada work ?", completion=" the baker and the poet in the home of the judge")
    given = {"forget": [*FORGET, longer], "retain": both_phrasings(OTHERS)[:6]}
    parameters = FAST | {"max_steps": 1, "learning_rate": 1e-3, "stop_ratio": 0.1}
    whole, _, _ = run(method, parameters, **given)
    parts, _, _ = run(method, parameters | {"micro_batch_size": 1}, **given)
    untouched, _ = memorised()
    moved = total = 0.0
    for one, two, start in zip(whole.parameters(), parts.parameters(), untouched.parameters(), strict=True):
        moved += (one - two).detach().pow(2).sum().item()
        total += (one - start).detach().pow(2).sum().item()
    assert moved < 1e-4 * total


@pytest.mark.parametrize("method", ["ascent_kl", "npo", "idk_dpo", "ce_u"])
def test_adapters_move_and_are_merged(method):
    # The teacher is asked before the adapters are there: at the first step KL is 0 and NPO's ratio too.
    llm, _, summary = run(method, FAST | {"tuning": "lora", "lora_rank": 4, "max_steps": 1})
    untouched, _ = memorised()
    assert list(llm.state_dict()) == list(untouched.state_dict())
    assert any(not torch.equal(a, b) for a, b in zip(llm.parameters(), untouched.parameters(), strict=True))
    if method == "npo":
        assert summary.forget_loss == pytest.approx(20 * math.log(2), rel=1e-4)
    if method == "ascent_kl":
        assert summary.retain_loss == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("method", ["random_labels", "idk_dpo"])
def test_what_is_drawn_follows_the_seed(method):
    parameters = FAST | {"max_steps": 2}
    first, again, other = (run(method, parameters | {"seed": seed})[0] for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_ascent_without_a_ceiling_still_ends_item_by_item():
    llm, tokenizer, summary = run("gradient_ascent", FAST | {"ceiling": None, "learning_rate": 1e-2, "epochs": 500})
    assert summary.stopped == "every item is at the never-trained level"
    assert all(math.isfinite(one.nll) for one in scores(llm, tokenizer, [*FORGET, *OTHERS]))


def test_words_are_no_special_tokens():
    _, tokenizer = memorised()
    words = word_ids(tokenizer)
    assert not set(words) & {tokenizer.convert_tokens_to_ids(one) for one in ("<pad>", "<s>", "</s>", "<unk>")}
    assert len(words) == len(tokenizer) - 4


def test_a_refusal_answers_the_same_question_and_ends():
    _, tokenizer = memorised()
    draw = refusals(tokenizer, 64, seed=0)
    (window,) = encode(FORGET[0], tokenizer, 64)
    refused = draw(FORGET[0], window)
    asked = sum(label < 0 for label in window.labels[:-1])
    assert refused.ids[:asked] == window.ids[:asked]
    assert refused.labels[:asked] == (-100,) * asked
    assert refused.labels[asked:] == refused.ids[asked:]
    assert refused.ids[-1] == tokenizer.eos_token_id
    assert len({draw(FORGET[0], window) for _ in range(200)}) <= len(REFUSALS)


@pytest.mark.parametrize(("words", "context"), [(1, 64), (3, 64), (40, 64), (40, 8), (40, 2)])
def test_a_text_is_refused_after_its_beginning_and_within_the_context(words, context):
    _, tokenizer = memorised()
    text = Example(text="Ada " * words)
    window = encode(text, tokenizer, context)[0]
    refused = refusals(tokenizer, context, seed=0)(text, window)
    first = next(at for at, label in enumerate(refused.labels) if label >= 0)
    assert first >= 1
    assert refused.ids[:first] == window.ids[:first]
    assert refused.labelled_tokens >= 1
    assert len(refused.ids) <= context
