import pytest
import torch
from transformers import NemotronHConfig, NemotronHForCausalLM

from tests.make_architectures import GROUPED, SIZES, make_architecture
from tests.make_llm import make_gpt2, make_llama
from workers.adapters import add_lora, merge_lora
from workers.errors import Unsuitable

torch.set_num_threads(1)
MAMBA = {
    "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1, "head_dim": 8,
    "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
}  # fmt: skip


@pytest.mark.parametrize("make", [make_llama, make_gpt2])
def test_merging_adds_the_scaled_product(make):
    llm = make()
    base = {name: one.clone() for name, one in llm.state_dict().items()}
    wrapper = add_lora(llm, rank=2, alpha=6.0, targets="all-linear")
    expected = {}
    for name, module in llm.named_modules():
        if hasattr(module, "lora_A"):
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            with torch.no_grad():
                b.normal_()
            delta = 3.0 * b @ a
            expected[f"{name}.weight"] = (delta.T if make is make_gpt2 else delta).detach()
    merged = merge_lora(wrapper)
    assert expected
    assert merged is llm
    for name, one in merged.state_dict().items():
        torch.testing.assert_close(one, base[name] + expected.get(name, 0.0), rtol=1e-5, atol=1e-6)
    assert all(one.requires_grad for one in merged.parameters())


def test_a_router_that_answers_with_more_than_a_product_gets_none():
    llm = make_architecture("llama4")
    ids = torch.tensor([[5, 6, 7]])
    before = llm(ids).logits
    wrapper = add_lora(llm, rank=2, alpha=4.0, targets="all-linear")
    torch.testing.assert_close(llm(ids).logits, before)
    adapted = {name.split(".")[4] for name, one in llm.named_parameters() if one.requires_grad}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "shared_expert"}
    torch.testing.assert_close(merge_lora(wrapper)(ids).logits, before)


def test_what_a_kernel_reads_past_an_adapter_gets_none():
    config = NemotronHConfig(**SIZES | GROUPED | MAMBA)
    llm = NemotronHForCausalLM(config).eval()
    add_lora(llm, rank=2, alpha=4.0, targets="all-linear")
    adapted = {name.split(".lora_")[0].rpartition(".")[2] for name, one in llm.named_parameters() if one.requires_grad}
    assert adapted == {"in_proj", "q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"}


def test_only_adapters_are_trainable_and_change_nothing_at_first():
    llm = make_llama()
    ids = torch.tensor([[5, 6, 7]])
    before = llm(ids).logits
    add_lora(llm, rank=2, alpha=4.0, targets=["q_proj"])
    torch.testing.assert_close(llm(ids).logits, before)
    assert {name.split(".")[-3] for name, one in llm.named_parameters() if one.requires_grad} == {"lora_A", "lora_B"}


@pytest.mark.parametrize(("make", "name"), [(make_llama, "lm_head"), (make_llama, "embed_tokens"), (make_gpt2, "wte")])
def test_a_weight_that_input_and_output_share_is_refused(make, name):
    # Merging would change both, where the adapter changed one: another LLM than was trained.
    with pytest.raises(Unsuitable, match=f"lora_targets names {name}"):
        add_lora(make(tied=True), rank=2, alpha=4.0, targets=["q_proj", name])


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_of_an_untied_llm_both_can_be_adapted_and_merged(name):
    llm = make_llama(tied=False)
    wrapper = add_lora(llm, rank=2, alpha=4.0, targets=[name])
    with torch.no_grad():
        for part, one in llm.named_parameters():
            if "lora_" in part:
                one.normal_(std=0.1)
    ids = torch.tensor([[5, 6, 7]])
    trained = llm(ids).logits
    torch.testing.assert_close(merge_lora(wrapper)(ids).logits, trained, rtol=1e-4, atol=1e-5)


def test_every_name_must_be_somewhere():
    # A slip of the pen beside a right name would train less than was asked for, and nobody would hear of it.
    with pytest.raises(Unsuitable, match="lora_targets names v_porj, o_porj, which no module of this LLM is called"):
        add_lora(make_llama(), rank=2, alpha=4.0, targets=["q_proj", "v_porj", "o_porj"])


@pytest.mark.parametrize("names", [["mlp"], ["q_proj", "mlp"], []])
def test_a_name_that_takes_no_adapter_is_refused_in_words(names):
    with pytest.raises(Unsuitable, match="lora_targets") as refused:
        add_lora(make_llama(), rank=2, alpha=4.0, targets=names)
    told = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj, or all-linear"
    assert str(refused.value).endswith(f"name some of {told}")
    assert f"({', '.join(names)})" in str(refused.value)
