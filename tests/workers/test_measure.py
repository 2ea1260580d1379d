"""Which LLMs can be measured at all."""

import torch
from transformers import BloomConfig, BloomForCausalLM

from lethe.inputs import shared_context
from records.report import GroupName
from tests.make_llm import make_llama, make_tokenizer
from tests.make_people import NEVER_TRAINED, TRAINED, people
from workers.measure import MeasureSettings, measure
from workers.probes import Probes

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
