"""Layers and matrices by name; states of one layer, the student's and the frozen ones, on every architecture."""

import pytest
import torch
from torch import nn

from tests.make_architectures import ARCHITECTURES, BESIDE, make_architecture
from tests.make_llm import make_llama
from workers.batches import Encoded, Row, collate
from workers.methods.activations import FrozenReference, replay, trace
from workers.methods.layer_states import SteeredLayer, spots
from workers.methods.layers import (
    MLP_OUTPUT,
    UnsuitableError,
    and_two_before,
    decoder_layers,
    layer_prefix,
    mlp_output_names,
    quarter_depth,
    weight_names,
)

torch.set_num_threads(1)
EVERY = ARCHITECTURES | BESIDE
everywhere = pytest.mark.parametrize("architecture", EVERY)


def row(key, length, prompt=2):
    ids = torch.randint(3, 64, (length,), generator=torch.Generator().manual_seed(key)).tolist()
    return Row(key, Encoded(tuple(ids), (*[-100] * prompt, *ids[prompt:])), 1.0 + key / 4)


BATCH = collate([row(0, 9), row(1, 4), row(2, 12)], 0)


def states_of_every_layer(llm, batch):
    """From an ordinary forward pass of the whole LLM."""
    found = []
    handles = [
        layer.register_forward_hook(lambda _m, _i, out: found.append(out if torch.is_tensor(out) else out[0]))
        for layer in decoder_layers(llm)
    ]
    with torch.no_grad():
        llm(input_ids=batch.ids_BT, attention_mask=batch.mask_BT)
    for handle in handles:
        handle.remove()
    return found


def shake(llm, names, by=0.1):
    with torch.no_grad():
        for name, parameter in llm.named_parameters():
            if name in names:
                parameter.add_(by)


@everywhere
def test_the_matrix_that_ends_the_feed_forward_block_is_found_by_name(architecture):
    llm = make_architecture(architecture)
    expected = EVERY[architecture][2]
    assert {mlp_output_names(layer) for layer in decoder_layers(llm)} == {
        tuple(name.removesuffix(".weight") for name in expected)
    }
    assert weight_names(llm, (3, 1), (MLP_OUTPUT,)) == tuple(
        f"{layer_prefix(llm, at)}{name}" for at in (1, 3) for name in expected
    )


@everywhere
def test_states_are_bit_equal_to_the_full_forward_and_stay_so_when_the_student_moves(architecture):
    llm = make_architecture(architecture)
    expected = states_of_every_layer(llm, BATCH)
    names = weight_names(llm, (1, 2), (MLP_OUTPUT,))
    frozen = FrozenReference(llm, names, 1, 2)
    before = trace(llm, BATCH, 1, 2)
    assert torch.equal(before.states, expected[2])
    assert torch.equal(replay(llm, before, {}), expected[2])
    shake(llm, names)
    after = trace(llm, BATCH, 1, 2)
    assert not torch.allclose(after.states, expected[2], atol=1e-2)
    assert torch.equal(frozen.states(llm, after, BATCH), expected[2])


@everywhere
def test_leaving_early_leaves_no_trace_in_the_llm(architecture):
    llm = make_architecture(architecture)
    with torch.no_grad():
        expected = llm(input_ids=BATCH.ids_BT, attention_mask=BATCH.mask_BT).logits
        trace(llm, BATCH, 0, 1)
        assert torch.equal(llm(input_ids=BATCH.ids_BT, attention_mask=BATCH.mask_BT).logits, expected)


def test_later_layers_and_the_head_do_not_run():
    llm, ran = make_llama(layers=4), []
    for at, layer in enumerate(llm.model.layers):
        layer.register_forward_hook(lambda _m, _i, _o, at=at: ran.append(at))
    llm.lm_head.register_forward_hook(lambda _m, _i, _o: ran.append("head"))
    pair = SteeredLayer(llm, 2, (1, 2), (MLP_OUTPUT,), "labelled").pair(llm, BATCH)
    # Once for the student; again for the frozen states, the trained layers alone.
    assert ran == [0, 1, 2, 1, 2]
    torch.testing.assert_close(pair.states_PD, pair.frozen_PD, rtol=0, atol=0)


def test_only_the_trained_matrices_are_kept():
    llm = make_llama(layers=4)
    frozen = FrozenReference(llm, weight_names(llm, (1, 2), (MLP_OUTPUT,)), 1, 2)
    assert sum(one.numel() for one in frozen._weights.values()) == 2 * 32 * 64


def test_another_student_is_compared_with_the_teacher_as_it_was():
    teacher, student = make_llama(layers=3, seed=1), make_llama(layers=3, seed=2)
    expected = states_of_every_layer(teacher, BATCH)[1]
    names = weight_names(teacher, (1,), (MLP_OUTPUT,))
    frozen = FrozenReference(teacher, names, 1, 1)
    shake(teacher, names)
    assert torch.equal(frozen.states(student, trace(student, BATCH, 1, 1), BATCH), expected)


def test_positions_that_count_by_hand():
    labelled, real = spots(BATCH, "labelled"), spots(BATCH, "real")
    # Two prompt tokens: positions 1 to length - 2 predict a label.
    assert labelled.rows_P.tolist() == [0] * 7 + [1] * 2 + [2] * 10
    assert labelled.columns_P.tolist() == [*range(1, 8), 1, 2, *range(1, 11)]
    assert real.columns_P.tolist() == [*range(9), *range(4), *range(12)]
    assert set(labelled.weights_P[:7].tolist()) == {1.0}


def test_means_by_hand():
    # Row 0 holds 7 ones, row 1 two threes, row 2 ten zeros; weights 1, 1.25, 1.5.
    at = spots(BATCH, "labelled")
    values_P = torch.tensor([1.0] * 7 + [3.0] * 2 + [0.0] * 10)
    assert at.mean(values_P).item() == pytest.approx((7 * 1 + 2 * 1.25 * 3) / (7 + 2 * 1.25 + 10 * 1.5))
    assert at.mean_of_rows(values_P).item() == pytest.approx((1 * 1 + 1.25 * 3) / (1 + 1.25 + 1.5))
    assert float(at.row_weight) == pytest.approx(3.75)


def test_depths_by_hand():
    assert [quarter_depth(count) for count in (1, 2, 4, 12, 24, 32, 80)] == [0, 0, 0, 2, 5, 7, 19]
    assert [and_two_before(layer) for layer in (0, 1, 7)] == [(0,), (0, 1), (5, 6, 7)]


def test_what_is_not_there_is_said_in_words():
    llm = make_llama(layers=2)
    with pytest.raises(UnsuitableError, match="layers 0 to 1"):
        weight_names(llm, (2,), (MLP_OUTPUT,))
    with pytest.raises(UnsuitableError, match=r"there are mlp\.down_proj"):
        weight_names(llm, (0,), ("mlp.fc9",))
    with pytest.raises(UnsuitableError, match="before it"):
        SteeredLayer(llm, 0, (1,), (MLP_OUTPUT,), "labelled")
    llm.model.layers = nn.Sequential(*llm.model.layers)
    with pytest.raises(UnsuitableError, match=r"0 lists of 2 layers, .* no gradient_checkpointing"):
        decoder_layers(llm)
    layer = make_llama().model.layers[0]
    layer.mlp.fc2 = nn.Linear(64, 32)
    with pytest.raises(UnsuitableError, match="trained_modules"):
        mlp_output_names(layer)


def test_layers_that_hand_on_several_streams_are_refused_in_words():
    with pytest.raises(UnsuitableError, match="one state for each token"):
        trace(make_architecture("gemma3n"), BATCH, 0, 1)


def test_other_matrices_can_be_named():
    llm = make_llama(layers=2)
    assert weight_names(llm, (1,), ("self_attn.o_proj", MLP_OUTPUT, "mlp.down_proj")) == (
        "model.layers.1.self_attn.o_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
    )
