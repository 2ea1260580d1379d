"""A version's files that no LLM can be made of, and a device that is not there: each is said in words."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from records.errors import Invalid
from workers.failures import explain
from workers.load import DeviceMissing, VersionUnusable, chosen_device, load_llm


@pytest.fixture
def folder(llm_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(llm_folder, tmp_path / "llm")
    return tmp_path / "llm"


def configure(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"num_hidden_layers": 3}, "9 missing keys"),
        ({"num_hidden_layers": 1}, "9 unexpected keys"),
        ({"vocab_size": 99}, "1 mismatched keys"),
        ({"intermediate_size": 77}, "6 mismatched keys"),
    ],
)
def test_weights_that_do_not_fit_their_config_are_refused_with_counts(folder, fields, told):
    configure(folder, **fields)
    with pytest.raises(VersionUnusable, match=rf"do not fit its config.json: {told}\. Save both again"):
        load_llm(folder, "cpu")


@pytest.mark.parametrize("fields", [{"model_type": "nosuch"}, {"hidden_act": "nosuch"}, {"num_attention_heads": 7}])
def test_a_config_that_describes_no_llm_is_refused_in_words(folder, fields):
    configure(folder, **fields)
    with pytest.raises(VersionUnusable, match=r"no causal LLM of the version's config\.json") as caught:
        load_llm(folder, "cpu")
    assert "nosuch" not in str(caught.value)


@pytest.mark.parametrize("text", ["{}", '{"model": 3}', '{"version": "1.0", "added_tokens": []}'])
def test_a_tokenizer_that_cannot_be_read_is_refused_in_words(folder, text):
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(VersionUnusable, match="Save it again with save_pretrained") as caught:
        load_llm(folder, "cpu")
    failure = explain(pickle.loads(pickle.dumps(caught.value)))  # as it comes from another process
    assert (failure.code, "tokenizer files" in failure.sentence) == ("version_unusable", True)


@pytest.mark.parametrize(("special", "told"), [(False, "has 3 words behind the last of the"), (True, None)])
def test_words_without_an_embedding_are_refused_but_special_tokens_may_be_the_tokenizers_alone(folder, special, told):
    llm, tokenizer = load_llm(folder, "cpu")
    tokenizer.add_tokens([f"w{at}" for at in range(llm.config.vocab_size - len(tokenizer))])
    tokenizer.add_tokens(["one", "two", "three"], special_tokens=special)
    tokenizer.save_pretrained(folder)
    if told is None:
        assert len(load_llm(folder, "cpu")[1]) == llm.config.vocab_size + 3
        return
    with pytest.raises(VersionUnusable, match=told) as caught:
        load_llm(folder, "cpu")
    assert "one" not in str(caught.value).split()


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device")])
def test_a_host_that_is_full_is_not_the_tokenizers_fault(folder, error, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", full)
    with pytest.raises(type(error)):
        load_llm(folder, "cpu")


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    gpus(monkeypatch, 0)
    assert [chosen_device("auto"), chosen_device("auto", 1, 2), chosen_device("cpu", 1, 2)] == ["cpu"] * 3
    gpus(monkeypatch, 2)
    assert [chosen_device(one) for one in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    assert [chosen_device(one, rank, 2) for one in ("auto", "cuda") for rank in (0, 1)] == ["cuda:0", "cuda:1"] * 2


def test_one_gpu_is_not_shared_by_ranks(monkeypatch):
    gpus(monkeypatch, 2)
    with pytest.raises(Invalid, match="LETHE_DEVICE"):
        chosen_device("cuda:1", 0, 2)


@pytest.mark.parametrize(
    ("device", "ranks", "present", "told"),
    [
        ("cuda", 1, 0, r"LETHE_DEVICE=cuda .*needs 1 GPU, and its host shows none\. Install.* LETHE_DEVICE=auto"),
        ("cuda:1", 1, 1, "needs 2 GPUs, and its host shows 1"),
        ("auto", 3, 2, "needs 3 GPUs, and its host shows 2.*LETHE_WORKER_PROCESSES to the number of GPUs"),
    ],
)
def test_a_gpu_that_is_not_there_is_said_before_anything_is_loaded(folder, monkeypatch, device, ranks, present, told):
    gpus(monkeypatch, present)
    with pytest.raises(DeviceMissing, match=told):
        chosen_device(device, 0, ranks)
    if ranks == 1:
        (folder / "tokenizer.json").write_text("{}")
        with pytest.raises(DeviceMissing):
            load_llm(folder, device)
