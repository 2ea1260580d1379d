"""One matrix over METHODS and architectures: what any unlearning method must keep, whatever its equation."""

import inspect
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from records.params import METHOD_CARDS, PARAMETERS, MethodName
from tests.make_llm import make_gpt2, make_llama
from workers.batches import Encoded, Row, collate
from workers.methods import METHODS
from workers.methods.interface import WeighsBatches
from workers.methods.layers import decoder_layers
from workers.methods.teacher import TeacherMemory

torch.set_num_threads(1)

LLMS = {
    "llama tied": lambda: make_llama(tied=True),
    "llama untied": lambda: make_llama(tied=False),
    "gpt2 tied": lambda: make_gpt2(tied=True),
    "gpt2 untied": lambda: make_gpt2(tied=False),
}
pytestmark = [
    pytest.mark.parametrize("name", list(METHODS)),
    pytest.mark.parametrize("make", LLMS.values(), ids=LLMS),
]
LENGTHS = [9, 4, 12, 6]


def rows(seed=0, first_key=0, role="forget"):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for at, length in enumerate(LENGTHS):
        ids = torch.randint(3, 64, (length,), generator=generator).tolist()
        labels = (*[-100] * 2, *ids[2:])
        other = Encoded(tuple(ids), tuple(label if label < 0 else 3 + (label + 17) % 60 for label in labels))
        made.append(Row(first_key + at, Encoded(tuple(ids), labels), 1.0 + at / 4, role, other))
    return made


FORGET, RETAIN = rows(1), rows(2, first_key=10, role="retain")


def moved(llm):
    """A student a little away from its teacher."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in llm.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return llm


def widened(batch):
    """Five more columns of padding, filled with a word."""
    return replace(
        batch,
        ids_BT=F.pad(batch.ids_BT, (0, 5), value=9),
        mask_BT=F.pad(batch.mask_BT, (0, 5)),
        labels_BT=F.pad(batch.labels_BT, (0, 5), value=-100),
    )


def prepared(name, make):
    method = METHODS[name]()
    method.prepare(make(), [collate(FORGET, 0), collate(RETAIN, 0)], level=0.05)
    return method, moved(make())


def gradients(method, student, forget, retain):
    student.zero_grad(set_to_none=True)
    parameters = [one for one in student.parameters() if one.requires_grad]
    losses = method.losses(student, forget, retain)
    method.backward(losses, parameters)
    values = [losses.forget.item(), *([] if losses.retain is None else [losses.retain.item()])]
    return values, [None if one.grad is None else one.grad.clone() for one in parameters]


def test_losses_are_finite_and_move_weights(name, make):
    method, student = prepared(name, make)
    values, grads = gradients(method, student, collate(FORGET, 0), collate(RETAIN, 0))
    assert all(torch.isfinite(torch.tensor(values)))
    assert any(grad.abs().max() > 0 for grad in grads if grad is not None)


def test_padding_and_batch_order_do_not_show(name, make):
    method, student = prepared(name, make)
    values, grads = gradients(method, student, collate(FORGET, 0), collate(RETAIN, 0))
    shuffled = widened(collate([FORGET[at] for at in (2, 0, 3, 1)], 63))
    other_values, other_grads = gradients(method, student, shuffled, collate(RETAIN[::-1], 7))
    assert other_values == pytest.approx(values, abs=2e-6)
    for one, other in zip(grads, other_grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_prompt_and_padding_positions_get_no_gradient(name, make):
    # Two prompt tokens: the first predicts nothing labelled, nor does the last token of a row, nor padding.
    method, student = prepared(name, make)
    hidden = {}

    def keep(_module, _inputs, output):
        states_BTD = output if torch.is_tensor(output) else output[0]
        if states_BTD.requires_grad:
            hidden.update(out=states_BTD)

    # The last states with a gradient: those the head reads, or those of the layer where a method stops.
    handles = [one.register_forward_hook(keep) for one in (*decoder_layers(student), student.base_model)]
    losses = method.losses(student, collate(FORGET, 0), None)
    for handle in handles:
        handle.remove()
    (grad_BTD,) = torch.autograd.grad(losses.forget, [hidden["out"]])
    for row, length in enumerate(LENGTHS):
        touched = grad_BTD[row].abs().sum(1) > 0
        assert touched.tolist() == [1 <= at < length - 1 for at in range(max(LENGTHS))]


def test_only_the_chosen_parameters_move(name, make):
    method, student = prepared(name, make)
    chosen = [at for at, _ in enumerate(student.parameters()) if at % 3 == 0]
    for at, parameter in enumerate(student.parameters()):
        parameter.requires_grad_(at in chosen)
    gradients(method, student, collate(FORGET, 0), collate(RETAIN, 0))
    assert {at for at, one in enumerate(student.parameters()) if one.grad is not None} <= set(chosen)


def test_same_seed_same_bits(name, make):
    first, second = (gradients(*prepared(name, make), collate(FORGET, 0), collate(RETAIN, 0)) for _ in range(2))
    assert first[0] == second[0]
    for one, other in zip(first[1], second[1], strict=True):
        assert one is other if one is None else torch.equal(one, other)


def test_the_teacher_never_moves_even_if_it_is_the_student(name, make):
    method = METHODS[name]()
    student = make()
    method.prepare(student, [collate(FORGET, 0), collate(RETAIN, 0)], level=0.05)
    at_start = method.losses(moved(make()), collate(FORGET, 0), None).forget.item()
    optimiser = torch.optim.SGD(student.parameters(), lr=0.5)
    for _ in range(3):
        gradients(method, student, collate(FORGET, 0), collate(RETAIN, 0))
        optimiser.step()
    assert method.losses(moved(make()), collate(FORGET, 0), None).forget.item() == at_start


def test_micro_batches_add_up_by_the_weight_of_each(name, make):
    # Rows of unlike length and weight: a mean over answers, over tokens or over real positions must come out right.
    method, student = prepared(name, make)
    weigh = method.batch_weight if isinstance(method, WeighsBatches) else lambda batch: batch.token_weight
    for rows_of_side, forgets in ((FORGET, True), (RETAIN, False)):
        if not forgets and not method.wants_retain:
            continue
        whole, *parts = (
            (weigh(batch), loss_of(method, student, batch, forgets))
            for batch in (collate(some, 0) for some in (rows_of_side, *([row] for row in rows_of_side)))
        )
        assert sum(weight for weight, _ in parts) == pytest.approx(whole[0], rel=1e-5)
        assert sum(weight * loss for weight, loss in parts) == pytest.approx(whole[0] * whole[1], rel=1e-4)


def loss_of(method, student, batch, forgets):
    with torch.no_grad():
        found = method.losses(student, batch, None).forget if forgets else method.losses(student, None, batch).retain
    return found.item()


def test_the_card_says_whether_a_teacher_is_kept(name, make):
    # The memory estimate believes it, and the words that the API serves say the same.
    card = METHOD_CARDS[name]
    assert card.passes.keep_a_teacher == keeps_a_teacher(prepared(name, make)[0])
    assert card.passes.keep_a_teacher == ("teacher: cached" in card.needs)


def keeps_a_teacher(held):
    """Whether a TeacherMemory is among what it holds, or what that holds."""
    if isinstance(held, TeacherMemory):
        return True
    return not torch.is_tensor(held) and any(map(keeps_a_teacher, getattr(held, "__dict__", {}).values()))


def test_names_and_parameters_agree_with_the_records(name, make):
    assert set(METHODS) == set(PARAMETERS) == set(METHOD_CARDS) == {one.value for one in MethodName}
    fields = PARAMETERS[name].model_fields
    for field, parameter in inspect.signature(METHODS[name]).parameters.items():
        assert parameter.default == fields[field].default, field
