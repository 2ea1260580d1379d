"""Gradient checkpointing: the same gradients, every layer run twice, and the LLM left as it was."""

import pytest
import torch

from tests.make_llm import make_gpt2, make_llama
from tests.make_people import TRAINED, both_phrasings, memorised, people
from workers.loop import UnlearnWork, unlearn
from workers.methods.layers import decoder_layers
from workers.recompute import recomputed_layers

torch.set_num_threads(1)

IDS = torch.tensor([[1, 5, 6, 7]])


def gradients(llm):
    llm.zero_grad(set_to_none=True)
    llm(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    return [one.grad.clone() for one in llm.parameters()]


@pytest.mark.parametrize("make", [make_llama, make_gpt2])
def test_the_same_gradients_from_twice_the_passes(make):
    llm, passes = make(seed=1), []
    plain = gradients(llm)
    attention = next(part for name, part in decoder_layers(llm)[0].named_children() if "attn" in name)
    attention.register_forward_hook(lambda *_: passes.append(1))
    with recomputed_layers(llm):
        again = gradients(llm)
        assert len(passes) == 2
        with torch.no_grad():
            llm(input_ids=IDS)
        assert len(passes) == 3
    for one, two in zip(plain, again, strict=True):
        torch.testing.assert_close(one, two)
    gradients(llm)
    assert len(passes) == 4
    assert not any("forward" in vars(layer) for layer in decoder_layers(llm))


@pytest.mark.parametrize(
    ("method", "tuning"), [("undial", "full"), ("undial", "lora"), ("rmu", "named"), ("falcon", "named")]
)
def test_the_loop_ends_with_the_same_weights(method, tuning):
    ended = []
    for saving in (False, True):
        llm, tokenizer = memorised()
        parameters = {"max_steps": 3, "learning_rate": 1e-3, "tuning": tuning, "gradient_checkpointing": saving}
        retain = both_phrasings(people(TRAINED[1:3]))
        work = UnlearnWork(forget=people(TRAINED[:1]), retain=retain, method=method, parameters=parameters)
        summary = unlearn(llm, tokenizer, work, lambda _: None)
        assert summary.steps == 3
        ended.append(llm)
    for one, two in zip(*(llm.parameters() for llm in ended), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
