"""What is changed so that a step fits into memory: in which order, and only what nobody set; the estimate is one from
above."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from records.params import PARAMETERS
from records.params.auto import FITTED
from tests.make_architectures import make_architecture
from workers.fit import (
    GIB,
    USABLE_SHARE,
    Fit,
    LlmSize,
    RowTokens,
    activation_bytes,
    evidence_bytes,
    fit,
    pass_bytes,
    pass_tokens,
    training_bytes,
)
from workers.room import size_of

SEVEN_B = LlmSize(
    parameters=7_000_000_000, stored_bytes=2, layers=32, width=4096, inner=11008, vocabulary=32_000, on_gpu=True
)
TOKENS = RowTokens(512)


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
    assert training_bytes(size, "undial", parameters, RowTokens(10)) == weights + head + state + half + activations


def test_what_a_limit_and_a_projection_keep_is_counted() -> None:
    size = LlmSize(parameters=1000, stored_bytes=4, layers=2, width=8, inner=16, vocabulary=100)
    plain, limited, projected = (
        training_bytes(size, "undial", PARAMETERS["undial"](teacher="previous", **given), RowTokens(10))
        for given in ({}, {"update_limit": 0.1}, {"conflict_scope": "tensor"})
    )
    assert limited - plain == 4 * 1000  # the weights as they were
    assert projected - plain == 2 * 4 * 1000  # both gradients beside the one they make


def test_another_versions_weights_count_where_they_are_more_than_a_step() -> None:
    size = LlmSize(parameters=10**9, stored_bytes=4, layers=1, width=8, inner=16, vocabulary=100)
    parameters = PARAMETERS["undial"](tuning="lora", lora_rank=1, teacher="original")
    alone = parameters.model_copy(update={"teacher": "previous"})
    passed = pass_bytes(size, 32 * 10, 10)  # it is read before the steps
    assert training_bytes(size, "undial", parameters, RowTokens(10)) == 2 * 4 * 10**9 + 100 * 8 * 4 + passed
    assert training_bytes(size, "undial", alone, RowTokens(10)) < 1.01 * 4 * 10**9


def test_states_that_a_teacher_is_asked_once_are_counted_where_they_lie() -> None:
    size = LlmSize(parameters=1000, stored_bytes=4, layers=2, width=8, inner=16, vocabulary=100)

    def kept(method: str, on_gpu: bool = False, **given: Any) -> int:
        parameters, here = PARAMETERS[method](**given), replace(size, on_gpu=on_gpu)
        some, none = (training_bytes(here, method, parameters, RowTokens(10, count)) for count in (500, 0))
        return some - none

    assert kept("undial") == 500 * 8 * 4
    assert kept("undial", on_gpu=True) == 0  # they lie in the host's memory
    assert kept("npo") == kept("rmu", teacher="previous") == 0
    assert kept("npo", retain_kind="kl") == kept("rmu", teacher="original") == 500 * 8 * 4


def test_a_teachers_head_is_counted_for_every_method_that_keeps_it() -> None:
    size = LlmSize(parameters=1000, stored_bytes=4, layers=2, width=8, inner=16, vocabulary=100)
    plain, held = (training_bytes(size, "npo", PARAMETERS["npo"](retain_kind=kind), TOKENS) for kind in ("nll", "kl"))
    assert held - plain == 100 * 8 * 4


def test_fewer_examples_in_memory_are_fewer_rows_of_a_pass() -> None:
    size = LlmSize(parameters=0, stored_bytes=4, layers=1, width=8, inner=64, vocabulary=1)
    found = [
        training_bytes(
            size, "undial", PARAMETERS["undial"](micro_batch_size=micro, gradient_checkpointing=True), TOKENS
        )
        for micro in (None, 8, 2, 1)
    ]
    assert found[0] == found[1] > 3.9 * found[2]
    assert found[2] > 1.9 * found[3]
    assert [pass_tokens(PARAMETERS["undial"](micro_batch_size=micro), 10) for micro in (None, 2)] == [320, 80]


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
        (30.7, {"micro_batch_size": 1, "gradient_checkpointing": True, "tuning": "lora"}, "adapters are trained"),
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
    assert training_bytes(size, "falcon", falcon, RowTokens(10)) == 4 * 1000 + activations + gradients
    # On a CPU there are three of each gradient and no half-precision copies.
    on_cpu = replace(size, on_gpu=False)
    assert training_bytes(on_cpu, "falcon", falcon, RowTokens(10)) == 4 * 1000 + activations + 3 * 4 * 9 * 8 * 16
    taught = falcon.model_copy(update={"teacher": "original"})
    assert training_bytes(size, "falcon", taught, RowTokens(10)) == 2 * 4 * 1000 + activations + gradients


def test_all_experts_of_a_layer_are_counted_by_hand() -> None:
    """Four of 24 x 32 and a shared one of the same, where intermediate_size times width is 48 x 32."""
    size = size_of(make_architecture("qwen2_moe"))
    one_matrix, more = replace(size, modules={}), 5 * 24 * 32 - 48 * 32
    falcon = PARAMETERS["falcon"]()
    looks = [evidence_bytes(one, falcon, 10) for one in (size, one_matrix)]
    assert looks[0] - looks[1] == 4 * more * 4 * 3  # four layers, fp32, three of each gradient
    named = PARAMETERS["undial"](tuning="named", trained_layers=(1, 2))
    steps = [training_bytes(one, "undial", named, RowTokens(10)) for one in (size, one_matrix)]
    assert steps[0] - steps[1] == 2 * more * (4 + 8) * 3  # the gradient, AdamW's state, and two copies of all that


@pytest.mark.parametrize("method", ["falcon", "rmu"])
def test_a_dense_llms_estimate_does_not_depend_on_its_modules(method: str) -> None:
    for make in LLMS.values():
        size = size_of(make())
        assert size.modules["mlp-output"] == size.width * size.inner
        found = [training_bytes(one, method, PARAMETERS[method](), TOKENS) for one in (size, replace(size, modules={}))]
        assert found[0] == found[1]


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


@pytest.mark.parametrize(("rows", "tokens"), [(8, 32), (8, 256)])
@pytest.mark.parametrize("name", LLMS)
def test_a_pass_is_estimated_from_above_and_not_by_much(name: str, rows: int, tokens: int) -> None:
    llm = LLMS[name]().eval()
    ids = torch.randint(3, 100, (rows, tokens))
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0

    def call() -> None:
        with torch.no_grad():
            llm.base_model(input_ids=ids, attention_mask=mask, use_cache=False)

    call()  # what is made once and kept does not count
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [one for one in profile.profiler.kineto_results.events() if one.name() == "[memory]"]
    most = max(itertools.accumulate(one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())))
    size = size_of(llm)
    estimate = pass_bytes(size, rows * tokens, tokens) - 4 * 3 * min(1024, rows * tokens) * 100
    assert most <= estimate <= 2 * most
