"""Rounding to 8 and 4 bits, worked by hand; forgetting that lies inside a bucket is undone by it."""

from statistics import NormalDist

import pytest
import torch
from transformers import GptOssConfig, GptOssForCausalLM

from tests.make_architectures import MIXTURES, SIZES, make_architecture
from tests.make_llm import make_gpt2, make_llama
from workers.attacks.quantised import (
    int8_rounded,
    linear_matrices,
    moved_codes,
    nf4_codes,
    nf4_levels,
    nf4_rounded,
    quantised,
    weights_in,
    weights_of,
)

torch.set_num_threads(1)


def test_int8_by_hand():
    """Channel 1: a = 127, one code a unit, 0.4 to 0 and 1.6 to 2. Channel 2: a = 2.54, 0.02 a code. Zeros stay."""
    weight = torch.tensor([[127.0, 0.4, 1.6], [-2.54, 0.029, 0.031], [0.0, 0.0, 0.0]])
    wanted = torch.tensor([[127.0, 0.0, 2.0], [-2.54, 0.02, 0.04], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(int8_rounded(weight), wanted)


def test_the_sixteen_levels_have_the_published_ends_and_rise():
    levels = nf4_levels()
    assert (len(levels), levels[0], levels[7], levels[15]) == (16, -1.0, 0.0, 1.0)
    assert list(levels) == sorted(set(levels))


def test_levels_by_hand():
    """δ = 1 - 31/960. Below 0 the sevenths, above it the eighths of the way from δ to ½ in probability."""
    normal, outermost = NormalDist(), 1 - 31 / 960
    assert outermost == pytest.approx(0.9677083, abs=1e-7)
    assert normal.inv_cdf(outermost) == pytest.approx(1.848, abs=1e-3)
    levels = nf4_levels()
    assert levels[8] == pytest.approx(normal.inv_cdf(0.5 + 0.4677083 / 8) / 1.848138, abs=1e-5)
    assert levels[6] == pytest.approx(-normal.inv_cdf(0.5 + 0.4677083 / 7) / 1.848138, abs=1e-5)
    # Φ(0.1471) = 0.5585 and Φ(0.1683) = 0.5668: 0.0796 and -0.0911 of the largest.
    assert (levels[8], levels[6]) == (pytest.approx(0.0796, abs=1e-4), pytest.approx(-0.0911, abs=1e-4))


def test_nf4_by_hand():
    """The block's largest is 2, so w / a are -1, 0.5, 0.03, 0: nearest are -1, 0.4407 (code 12), 0 and 0 (code 7)."""
    weight = torch.tensor([[-2.0, 1.0], [0.06, 0.0]])
    assert nf4_codes(weight).tolist() == [[0, 12], [7, 7]]
    level = nf4_levels()[12]
    torch.testing.assert_close(nf4_rounded(weight), torch.tensor([[-2.0, 2 * level], [0.0, 0.0]]))


def test_every_block_of_64_has_its_own_scale_and_the_last_may_be_short():
    weight = torch.zeros(3, 32)
    weight[0, 0], weight[2, 0] = 4.0, 0.5
    rounded = nf4_rounded(weight)
    assert (rounded[0, 0].item(), rounded[2, 0].item()) == (4.0, 0.5)
    assert not rounded[1].any()


def test_rounding_is_idempotent_and_never_further_than_half_a_step():
    weight = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    once = nf4_rounded(weight)
    assert torch.equal(nf4_codes(once), nf4_codes(weight))
    levels = torch.tensor(nf4_levels())
    widest = (levels[1:] - levels[:-1]).max() / 2
    assert ((once - weight).abs() <= widest * weight.abs().max() + 1e-6).all()
    eight = int8_rounded(weight)
    assert ((eight - weight).abs() <= weight.abs().amax(1, keepdim=True) / 254 + 1e-6).all()


@pytest.mark.parametrize("precision", ["int8", "nf4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_meanwhile_the_layers_are_rounded_and_afterwards_the_bits_are_back(precision, dtype):
    llm = make_llama(tied=False).to(dtype)
    before = {name: one.clone() for name, one in llm.state_dict().items()}
    with quantised(llm, precision):
        changed = {name for name, one in llm.state_dict().items() if not torch.equal(one, before[name])}
    assert changed == set(linear_matrices(llm))
    assert not any("embed" in name or "lm_head" in name or "norm" in name for name in changed)
    assert all(torch.equal(one, before[name]) for name, one in llm.state_dict().items())


def test_the_bits_are_back_after_an_error():
    llm = make_llama()
    before = {name: one.clone() for name, one in llm.state_dict().items()}
    with pytest.raises(RuntimeError, match="stop"), quantised(llm, "nf4"):
        raise RuntimeError("stop")
    assert all(torch.equal(one, before[name]) for name, one in llm.state_dict().items())


def test_transposed_layers_are_rounded_by_output_channel():
    llm = make_gpt2()
    matrix = linear_matrices(llm)["transformer.h.0.attn.c_attn.weight"]
    wanted = int8_rounded(matrix.parameter.T.clone()).T
    with quantised(llm, "int8"):
        assert torch.equal(matrix.parameter, wanted)


@pytest.mark.parametrize("precision", ["int8", "nf4"])
@pytest.mark.parametrize("name", sorted(MIXTURES))
def test_every_expert_of_a_mixture_is_rounded_by_itself(name, precision):
    llm = make_architecture(name)
    experts = {name: one for name, one in llm.named_parameters() if ".experts." in name}
    before = {name: one.detach().clone() for name, one in experts.items()}
    rounding = {"int8": int8_rounded, "nf4": nf4_rounded}[precision]
    with quantised(llm, precision):
        for name, one in experts.items():
            # Llama 4 keeps (inputs, outputs), the others (outputs, inputs).
            wanted = [rounding(ours.T).T if "feed_forward" in name else rounding(ours) for ours in before[name]]
            assert torch.equal(one, torch.stack(wanted))
    assert all(torch.equal(one, before[name]) for name, one in experts.items())


def test_experts_are_rounded_along_what_their_module_calls_its_outputs():
    """One input of 100 and else 1, 2, …: were a row one input's, all outputs but one would round to other values."""
    llm = GptOssForCausalLM(GptOssConfig(**SIZES | {"num_hidden_layers": 1, "num_local_experts": 2, "head_dim": 8}))
    weight = llm.model.layers[0].mlp.experts.down_proj
    assert weight.shape == (2, 48, 32), "(experts, inputs, outputs)"
    with torch.no_grad():
        weight.fill_(1.0)
        weight[0, :, 5] = 127.0
        weight[0, 0, 7] = 1.004
    with quantised(llm, "int8"):
        assert weight[0, :, 5].tolist() == [127.0] * 48
        # Channel 7: 1.004 / 127 a code, and 1 is code 126.49 of it.
        assert weight[0, 1, 7].item() == pytest.approx(126 * 1.004 / 127)
        assert weight[0, 1, 6].item() == 1.0


def test_a_step_inside_the_bucket_moves_no_code_and_a_wide_one_does():
    base, near, far = (make_llama(seed=3) for _ in range(3))
    with torch.no_grad():
        for llm, share in ((near, 1e-4), (far, 0.5)):
            for matrix in linear_matrices(llm).values():
                noise = torch.randn(matrix.parameter.shape, generator=torch.Generator().manual_seed(1))
                matrix.parameter.add_(share * matrix.parameter.std() * noise)
    small, large = moved_codes(weights_of(base), near), moved_codes(weights_of(base), far)
    everything = sum(one.parameter.numel() for one in linear_matrices(base).values())
    assert (
        everything == large.changed >= small.changed > 0.99 * everything
    )  # some are too large to be changed so little
    assert small.share < 0.01 < 0.5 < large.share
    assert moved_codes(weights_of(base), base).share is None


def test_codes_are_compared_with_a_folder_too(tmp_path):
    base, other = make_gpt2(seed=1), make_gpt2(seed=2)
    base.save_pretrained(tmp_path)
    wanted = moved_codes(weights_of(base), other)
    assert moved_codes(weights_in(tmp_path), other) == wanted
    short = {name.removeprefix("transformer."): one for name, one in base.named_parameters()}
    assert moved_codes(short.get, other) == wanted
    assert moved_codes({}.get, other).compared == 0 < wanted.compared


@pytest.mark.parametrize("name", sorted(MIXTURES))
def test_experts_are_found_in_a_folder_that_holds_each_by_itself(tmp_path, name):
    base, other = make_architecture(name, seed=1), make_architecture(name, seed=2)
    base.save_pretrained(tmp_path)
    wanted = moved_codes(weights_of(base), other)
    assert wanted.compared == sum(one.parameter.numel() for one in linear_matrices(base).values())
    assert moved_codes(weights_in(tmp_path), other) == wanted
