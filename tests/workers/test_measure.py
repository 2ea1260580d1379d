"""Which LLMs can be measured at all."""

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, LlamaForCausalLM

from lethe.inputs import shared_context
from records.report import GroupName
from tests.make_llm import make_llama, make_tokenizer
from tests.make_people import NEVER_TRAINED, TRAINED, people
from workers.errors import Diverged, UnknownHead
from workers.loop import UnlearnWork, unlearn
from workers.measure import MeasureSettings, measure, measure_reference
from workers.probes import Probes
from workers.reader import LlmReader, Measured

torch.set_num_threads(1)

PROBES = Probes(forget=people(TRAINED[:1]), control=people(NEVER_TRAINED[:1]))


def make_bloom():
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=64, hidden_size=32, n_layer=2, n_head=4, pad_token_id=0, bos_token_id=1, eos_token_id=2
    )
    return BloomForCausalLM(config).eval()


def test_an_llm_that_names_no_limit_of_its_context_is_measured():
    found = measure(make_bloom(), make_tokenizer(), PROBES, MeasureSettings(samples=1))
    assert len(found.groups[GroupName.FORGET]) == 2
    assert not any("left out" in note for note in found.notes)


def test_of_two_checkpoints_the_context_that_is_named_is_shared(tmp_path):
    folders = {"--base": tmp_path / "bloom", "--candidate": tmp_path / "llama"}
    for folder, llm in zip(folders.values(), (make_bloom(), make_llama(context=64)), strict=True):
        llm.save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
    assert shared_context(folders, ["Where does Ada live ?"]) == 64


def test_no_more_tokens_than_stated_are_read_at_once(monkeypatch):
    llm, tokenizer, read = make_llama(context=64).eval(), make_tokenizer(), []
    probes = Probes(forget=people(TRAINED), control=people(NEVER_TRAINED))
    whole = measure(llm, tokenizer, probes, MeasureSettings(samples=0))
    llm.get_input_embeddings().register_forward_hook(lambda _m, ids, _o: read.append(ids[0].numel()))
    monkeypatch.setattr("workers.reader.READ_TOKENS", 40)
    monkeypatch.setattr(
        LlmReader,
        "_with_answers",
        lambda _self, items, numbers, _depth: [
            Measured(item.asked, its) for item, its in zip(items, numbers, strict=True)
        ],
    )
    parts = measure(llm, tokenizer, probes, MeasureSettings(samples=0))
    assert 0 < max(read) <= 40
    for ours, theirs in zip(parts.groups[GroupName.FORGET], whole.groups[GroupName.FORGET], strict=True):
        assert ours.numbers.token_probability == pytest.approx(theirs.numbers.token_probability)


class Tenth(LlamaForCausalLM):
    """An architecture whose logits are not its head applied to its last states."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = 0.1 * output.logits
        return output


def make_tenth():
    return Tenth(make_llama(vocabulary=64).config).eval()


@pytest.mark.parametrize("ask", [measure, measure_reference])
def test_an_llm_whose_head_is_not_known_is_not_measured(ask):
    with pytest.raises(UnknownHead, match=r"workers/methods/head\.py"):
        ask(make_tenth(), make_tokenizer(), PROBES, MeasureSettings(samples=1))


@pytest.mark.parametrize("method", ["rmu", "falcon", "gradient_ascent", "undial"])
def test_no_method_trains_an_llm_whose_head_is_not_known(method):
    work = UnlearnWork(people(TRAINED[:1]), people(TRAINED[1:]), method=method, parameters={"max_steps": 1})
    with pytest.raises(UnknownHead):
        unlearn(make_tenth(), make_tokenizer(), work, lambda _: None)


def test_a_broken_llm_is_told_to_be_broken():
    llm = make_llama(vocabulary=64)
    with torch.no_grad():
        llm.model.norm.weight.fill_(float("nan"))
    with pytest.raises(Diverged, match="weights are damaged"):
        measure(llm, make_tokenizer(), PROBES, MeasureSettings(samples=1))
