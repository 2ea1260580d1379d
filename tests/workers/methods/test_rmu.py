"""RMU: numbers by hand, the float64 reference, the mean over rows."""

import weakref

import pytest
import torch

from tests.make_architectures import ARCHITECTURES, make_architecture
from tests.make_llm import make_llama
from workers.methods.layer_states import Spots
from workers.methods.layers import layer_prefix
from workers.methods.rmu import Rmu, random_direction, squared_distances

from .test_falcon_layers import as_retain
from .test_layers import collate, row, shake, states_of_every_layer

torch.set_num_threads(1)
FORGET = collate([row(0, 9), row(1, 4)], 0)
RETAIN = as_retain(collate([row(10, 7), row(11, 12)], 0))


def prepared(teacher, **parameters):
    method = Rmu(**parameters)
    method.prepare(teacher, [FORGET, RETAIN], level=0.05)
    return method


def test_distance_by_hand():
    # (3, 4) to (0, 0): (9 + 16) / 2.
    assert squared_distances(torch.tensor([[3.0, 4.0]]), torch.zeros(2)).tolist() == [12.5]


def test_the_direction_has_length_one_no_negative_entry_and_its_seed():
    one = random_direction(64, 3)
    assert one.norm().item() == pytest.approx(1.0)
    assert bool((one >= 0).all())
    assert torch.equal(one, random_direction(64, 3))
    assert not torch.equal(one, random_direction(64, 4))


def test_losses_and_gradient_agree_with_float64_written_out():
    student = make_llama(layers=3)
    method = prepared(student, layer=1, steering=2.0, retain_weight=3.0)
    shake(student, method.chosen_weights(), 0.02)
    losses = method.losses(student, FORGET, RETAIN)
    method.backward(losses, list(student.parameters()))

    frozen, wide = make_llama(layers=3).double(), make_llama(layers=3).double()
    wide.load_state_dict(student.state_dict())
    goal = 2.0 * random_direction(32, 0).double()
    forget = rows_mean(wide, FORGET, lambda states, _: (states - goal).square().mean(-1))
    with torch.no_grad():
        held = states_of_every_layer(frozen, RETAIN)[1]
    retain = rows_mean(wide, RETAIN, lambda states, at: (states - held[at]).square().mean(-1))
    (forget + 3.0 * retain).backward()
    assert losses.forget.item() == pytest.approx(forget.item(), abs=1e-6)
    assert losses.retain.item() == pytest.approx(retain.item(), abs=1e-6)
    expected = dict(wide.named_parameters())
    for name, parameter in student.named_parameters():
        if name in method.chosen_weights():
            torch.testing.assert_close(parameter.grad.double(), expected[name].grad, rtol=1e-5, atol=1e-6)
        else:
            assert parameter.grad is None


def rows_mean(llm, batch, value):
    """Σ_i w_i·mean_t value(i, t) / Σ_i w_i over the positions that predict a label, one row and position at a time."""
    found = []
    handle = llm.model.layers[1].register_forward_hook(lambda _m, _i, out: found.append(out))
    llm(input_ids=batch.ids_BT, attention_mask=batch.mask_BT)
    handle.remove()
    total = weights = 0.0
    for row_at, weight in enumerate(batch.weights_B.double()):
        columns = [c for c in range(batch.ids_BT.size(1) - 1) if batch.labels_BT[row_at, c + 1] >= 0]
        total = total + weight * sum(value(found[0][row_at, c], (row_at, c)) for c in columns) / len(columns)
        weights = weights + weight
    return total / weights


def test_short_rows_count_as_much_as_long_ones():
    # A 9-token and a 4-token row: 7 and 2 positions. Over all positions the mean would be another.
    student = make_llama(layers=2)
    method = prepared(student)
    both = method.losses(student, FORGET, None).forget.item()
    apart = [
        method.losses(student, collate([row(at, length)], 0), None).forget.item() for at, length in ((0, 9), (1, 4))
    ]
    assert both == pytest.approx((1.0 * apart[0] + 1.25 * apart[1]) / 2.25, abs=1e-6)
    assert method.batch_weight(FORGET) == pytest.approx(2.25)


def test_nothing_to_hold_at_the_start():
    student = make_llama(layers=2)
    assert prepared(student).losses(student, None, RETAIN).retain.item() == 0.0


def test_a_relative_goal_is_counted_in_the_states_own_length():
    teacher = make_llama(layers=2)
    method = prepared(teacher, layer=1, steering=3.0, steering_scale="relative")
    states = states_of_every_layer(teacher, FORGET)[1]
    lengths = [states[0, c].norm() for c in range(1, 8)] + [states[1, c].norm() for c in (1, 2)]
    numbers = method.findings().numbers
    assert numbers["frozen_forget_length"] == pytest.approx(float(sum(lengths) / 9))
    assert numbers["goal_length"] == pytest.approx(3 * float(sum(lengths) / 9))


def test_the_mean_length_is_taken_a_batch_at_a_time(monkeypatch):
    alive, held = [], []

    def of(spots, states_BTD):
        held.append(sum(one() is not None for one in alive))
        states_PD = states_BTD[spots.rows_P, spots.columns_P].float()
        alive.append(weakref.ref(states_PD))
        return states_PD

    monkeypatch.setattr(Spots, "of", of)
    batches = [collate([row(key, 5 + key)], 0) for key in range(6)]
    Rmu().prepare(make_llama(layers=2), batches, level=0.05)
    assert len(held) == 6
    assert max(held) <= 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_moves_the_named_matrices_of_every_architecture_and_nothing_else(architecture):
    student = make_architecture(architecture)
    before = {name: one.clone() for name, one in student.state_dict().items()}
    method = prepared(student, layer=2, trained_layers=(1, 2), retain_weight=1.0)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-2, weight_decay=0.0)
    start = method.losses(student, FORGET, None).forget.item()
    for _ in range(5):
        method.backward(method.losses(student, FORGET, RETAIN), list(student.parameters()))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    moved = {name for name, one in student.state_dict().items() if not torch.equal(one, before[name])}
    assert moved == {f"{layer_prefix(student, at)}{name}" for at in (1, 2) for name in ARCHITECTURES[architecture][2]}
    assert method.losses(student, FORGET, None).forget.item() < start


def test_losses_before_prepare_say_so():
    with pytest.raises(RuntimeError, match="prepare"):
        Rmu().losses(make_llama(), FORGET, None)
