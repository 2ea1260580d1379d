"""What is changed so that a step fits into memory: in which order, and only what nobody set; the estimate is one from
above."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from records.params import PARAMETERS
from records.params.auto import FITTED
from workers.fit import GIB, USABLE_SHARE, Fit, LlmSize, activation_bytes, fit, training_bytes
from workers.room import size_of

SEVEN_B = LlmSize(
    parameters=7_000_000_000, stored_bytes=2, layers=32, width=4096, inner=11008, vocabulary=32_000, on_gpu=True
)
TOKENS = 512


def fitted(gib: float, method: str = "undial", may_change: tuple[str, ...] = FITTED, **given: Any) -> Fit:
    return fit(SEVEN_B, method, PARAMETERS[method](**given), may_change, TOKENS, round(gib * GIB))


def changed(found: Fit) -> dict[str, Any]:
    names = ("micro_batch_size", "gradient_checkpointing", "tuning")
    return {name: getattr(found.parameters, name) for name in names}


def test_a_number_worked_by_hand() -> None:
    size = LlmSize(parameters=1000, stored_bytes=2, layers=2, width=8, inner=16, vocabulary=100, on_gpu=True)
    parameters = PARAMETERS["undial"](batch_size=4, micro_batch_size=1)
    weights, head, state, half = 4 * 1000, 100 * 8 * 4, 12 * 1000, 2 * 1000
    per_token = 15 * 8 + 4 * 16 + 10
    activations = 4 * (2 * 20 * per_token + 2 * 5 * 20 * 100)
    assert training_bytes(size, "undial", parameters, tokens=10) == weights + head + state + half + activations


def test_what_a_limit_and_a_projection_keep_is_counted() -> None:
    size = LlmSize(parameters=1000, stored_bytes=4, layers=2, width=8, inner=16, vocabulary=100)
    plain, limited, projected = (
        training_bytes(size, "undial", PARAMETERS["undial"](teacher="previous", **given), tokens=10)
        for given in ({}, {"update_limit": 0.1}, {"conflict_scope": "tensor"})
    )
    assert limited - plain == 4 * 1000  # the weights as they were
    assert projected - plain == 2 * 4 * 1000  # both gradients beside the one they make


def test_another_versions_weights_count_where_they_are_more_than_a_step() -> None:
    size = LlmSize(parameters=10**9, stored_bytes=4, layers=1, width=8, inner=16, vocabulary=100)
    parameters = PARAMETERS["undial"](tuning="lora", lora_rank=1, teacher="original")
    alone = parameters.model_copy(update={"teacher": "previous"})
    assert training_bytes(size, "undial", parameters, tokens=10) == 2 * 4 * 10**9 + 100 * 8 * 4
    assert training_bytes(size, "undial", alone, tokens=10) < 1.01 * 4 * 10**9


def test_plenty_of_memory_changes_nothing() -> None:
    parameters = PARAMETERS["undial"]()
    assert fit(SEVEN_B, "undial", parameters, FITTED, TOKENS, 2**60) == Fit(parameters, None)
    assert fit(SEVEN_B, "undial", parameters, FITTED, TOKENS, None) == Fit(parameters, None)
    assert fit(SEVEN_B, "undial", parameters, (), TOKENS, 1) == Fit(parameters, None)


@pytest.mark.parametrize(
    ("gib", "expected", "words"),
    [
        (200, {"micro_batch_size": 4, "gradient_checkpointing": False, "tuning": "full"}, "4 examples in memory"),
        (150, {"micro_batch_size": 1, "gradient_checkpointing": False, "tuning": "full"}, "1 examples in memory"),
        (145, {"micro_batch_size": None, "gradient_checkpointing": True, "tuning": "full"}, "each layer computed"),
        (60, {"micro_batch_size": 2, "gradient_checkpointing": False, "tuning": "lora"}, "adapters are trained"),
        (30, {"micro_batch_size": None, "gradient_checkpointing": True, "tuning": "lora"}, "adapters are trained"),
    ],
)
def test_what_costs_least_is_changed_first(gib: float, expected: dict[str, Any], words: str) -> None:
    found = fitted(gib)
    assert changed(found) == expected
    assert found.note is not None
    assert words in found.note
    assert training_bytes(SEVEN_B, "undial", found.parameters, TOKENS) <= USABLE_SHARE * gib * GIB


def test_what_somebody_set_stays() -> None:
    found = fitted(60, may_change=("gradient_checkpointing", "micro_batch_size"), tuning="full")
    assert found.parameters.tuning == "full"
    assert found.note is not None
    assert "nothing that may be changed is enough" in found.note
    assert changed(fitted(60, may_change=("tuning",)))["micro_batch_size"] is None


def test_a_method_is_never_given_what_it_does_not_take() -> None:
    found = fitted(20, method="falcon")
    assert found.parameters.tuning == "named"
    assert found.note is not None


def test_methods_that_steer_a_layer_need_far_less() -> None:
    whole, steered = (training_bytes(SEVEN_B, name, PARAMETERS[name](), TOKENS) for name in ("undial", "rmu"))
    assert steered < whole / 3


def test_the_look_at_every_layer_is_counted_by_hand() -> None:
    size = LlmSize(parameters=1000, stored_bytes=2, layers=9, width=8, inner=16, vocabulary=100, on_gpu=True)
    falcon = PARAMETERS["falcon"](micro_batch_size=2, trained_layers=(0,), layer=0)
    activations = 4 * (9 * 20 * (15 * 8 + 4 * 16 + 10) + 2 * 5 * 20 * 100)
    gradients = 9 * 8 * 16 * (4 + 2)
    assert training_bytes(size, "falcon", falcon, tokens=10) == 4 * 1000 + activations + gradients
    # On a CPU there are three of each gradient and no half-precision copies.
    on_cpu = replace(size, on_gpu=False)
    assert training_bytes(on_cpu, "falcon", falcon, tokens=10) == 4 * 1000 + activations + 3 * 4 * 9 * 8 * 16
    taught = falcon.model_copy(update={"teacher": "original"})
    assert training_bytes(size, "falcon", taught, tokens=10) == 2 * 4 * 1000 + activations + gradients


def test_falcon_fits_by_fewer_examples_and_then_by_computing_layers_again() -> None:
    assert changed(fitted(200, method="falcon"))["micro_batch_size"] is None
    assert changed(fitted(80, method="falcon"))["micro_batch_size"] == 4
    assert fitted(55, method="falcon", may_change=("gradient_checkpointing",)).parameters.gradient_checkpointing


SMALL: dict[str, Any] = {"vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
HEADS: dict[str, Any] = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 160}
LLMS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(hidden_size=64, **HEADS, **SMALL)),
    "qwen3": lambda: Qwen3ForCausalLM(
        Qwen3Config(hidden_size=64, head_dim=16, num_key_value_heads=2, **HEADS, **SMALL)
    ),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=3, n_head=4, **SMALL)),
    "eager": lambda: LlamaForCausalLM(LlamaConfig(hidden_size=64, attn_implementation="eager", **HEADS, **SMALL)),
}


@pytest.mark.parametrize("tokens", [32, 256])
@pytest.mark.parametrize("name", LLMS)
def test_activations_are_estimated_from_above_and_not_by_much(name: str, tokens: int) -> None:
    llm, kept = LLMS[name]().eval(), {}
    weights = {one.untyped_storage().data_ptr() for one in llm.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(3, 100, (2, tokens))
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        llm.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    counted = sum(size for size, _ in kept.values())
    size = size_of(llm)
    parameters = PARAMETERS["undial"](micro_batch_size=1)
    logits = 4 * 2 * 5 * min(512, 2 * tokens) * 100
    estimate = activation_bytes(size, parameters, 2 * tokens, tokens, steers=False) - logits
    assert counted <= estimate <= 2 * counted
