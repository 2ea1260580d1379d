"""How large an LLM is and how much memory is left, read from files of the forms that Linux writes."""

from dataclasses import replace
from pathlib import Path

import torch

from records.params import PARAMETERS
from tests.make_architectures import make_architecture
from tests.make_llm import make_llama
from workers.fit import RowTokens, fit
from workers.room import available_bytes, free_bytes, size_of, unused_bytes


def test_the_size_is_the_llms_own() -> None:
    llm = make_llama().to(torch.bfloat16)
    size = size_of(llm)
    assert size.parameters == sum(one.numel() for one in llm.parameters())
    assert (size.stored_bytes, size.on_gpu, size.copies, size.eager_heads) == (2, False, 2, 0)
    assert (size.layers, size.width, size.inner, size.vocabulary) == (
        llm.config.num_hidden_layers,
        llm.config.hidden_size,
        llm.config.intermediate_size,
        llm.config.vocab_size,
    )


def test_the_widest_block_counts_where_each_layer_has_its_own() -> None:
    llm = make_architecture("gemma3n")
    llm.config.intermediate_size = [48, 96, 48, 48]
    assert size_of(llm).inner == 96


def test_layers_that_are_not_known_are_not_computed_again() -> None:
    """As Jamba's, which are of two kinds: it would end the job, though nobody asked for it."""
    llm = make_llama()
    assert size_of(llm).layers_known
    llm.model.layers = torch.nn.Sequential(*llm.model.layers)
    size, names = size_of(llm), ("gradient_checkpointing", "micro_batch_size")
    assert (size.layers_known, size.modules) == (False, {})
    tight = fit(size, "undial", PARAMETERS["undial"](), names, RowTokens(16), 1)
    assert (tight.parameters.gradient_checkpointing, tight.parameters.micro_batch_size) == (False, 1)
    known = fit(replace(size, layers_known=True), "undial", PARAMETERS["undial"](), names, RowTokens(16), 1)
    assert known.parameters.gradient_checkpointing


def test_what_the_system_says_is_available(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       16000000 kB\nMemFree:  1 kB\nMemAvailable:   2000 kB\n")
    assert available_bytes(file) == 2000 * 1024
    assert available_bytes(tmp_path / "none") is None


def test_a_containers_limit_counts_without_the_caches_that_can_go(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\n")
    assert unused_bytes(tmp_path) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert unused_bytes(tmp_path) is None


def test_an_llms_own_weights_count_as_free(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable: 1 kB\n")
    monkeypatch.setattr("workers.room.MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("workers.room.CGROUP", tmp_path)
    llm = make_llama()
    assert free_bytes(llm) == 1024 + sum(one.nbytes for one in llm.parameters())
    (tmp_path / "meminfo").unlink()
    assert free_bytes(llm) is None
