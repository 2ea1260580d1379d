"""UnDIAL's loss: numbers worked by hand, and agreement with the equation written naively in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from workers.methods.soft_labels import (
    Pull,
    floored,
    hard_label_loss,
    levelled,
    lowered,
    soft_label_loss,
    soft_label_losses,
    unchanged,
)

torch.set_num_threads(1)


def naive(student_NV, teacher_NV, targets_N, strength):
    """The paper's equation as it is printed, float64."""
    adjusted_NV = teacher_NV.double() - strength * F.one_hot(targets_N, teacher_NV.size(1)).double()
    return -(adjusted_NV.softmax(1) * student_NV.double().log_softmax(1)).sum(1)


def random_case(seed, tokens=6, words=11, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    student_NV = torch.randn(tokens, words, generator=generator) * scale
    teacher_NV = torch.randn(tokens, words, generator=generator) * scale
    return student_NV, teacher_NV, torch.randint(words, (tokens,), generator=generator)


def test_two_words_by_hand():
    # Teacher p = (3/4, 1/4), label 0, γ = ln 3: q = (1/4, 1/4) scaled to (1/2, 1/2).
    # Student p = (4/5, 1/5): L = -(ln 4/5 + ln 1/5) / 2 = ln(25 / 4) / 2.
    teacher_NV = torch.tensor([[math.log(3.0), 0.0]])
    student_NV = torch.tensor([[math.log(4.0), 0.0]], requires_grad=True)
    loss_N = soft_label_losses(student_NV, teacher_NV, torch.tensor([0]), lowered(math.log(3.0)))
    loss_N.sum().backward()
    assert loss_N.item() == pytest.approx(math.log(25 / 4) / 2, abs=1e-6)
    assert student_NV.grad.tolist()[0] == pytest.approx([0.8 - 0.5, 0.2 - 0.5], abs=1e-6)


@pytest.mark.parametrize(("level", "pulled"), [(1 / 5, True), (9 / 10, False)])
def test_a_pull_by_hand(level, pulled):
    # As above, p = (4/5, 1/5) and q = (1/2, 1/2), and λ = 2 towards ln 1/5: 2·ln(4/5 / 1/5) more, with the gradient
    # 2·(1 - 4/5, -1/5). A level of 9/10 is above the label and pulls nothing.
    teacher_NV = torch.tensor([[math.log(3.0), 0.0]])
    student_NV = torch.tensor([[math.log(4.0), 0.0]], requires_grad=True)
    pull = Pull(torch.tensor([math.log(level)]), 2.0)
    loss_N = soft_label_losses(student_NV, teacher_NV, torch.tensor([0]), lowered(math.log(3.0)), pull)
    loss_N.sum().backward()
    assert loss_N.item() == pytest.approx(math.log(25 / 4) / 2 + 2 * math.log(4) * pulled, abs=1e-6)
    assert student_NV.grad.tolist()[0] == pytest.approx([0.3 + 0.4 * pulled, -0.3 - 0.4 * pulled], abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, 512])
def test_a_pull_agrees_with_float64(chunk):
    student_NV, teacher_NV, targets_N = random_case(3)
    levels_N, weights_N = torch.linspace(-6.0, -1.0, 6), torch.arange(1.0, 7.0)
    student_NV.requires_grad_()
    loss = soft_label_loss(
        student_NV,
        torch.clone,
        teacher_NV,
        torch.clone,
        targets_N,
        weights_N,
        lowered(4.0),
        chunk,
        Pull(levels_N, 0.7),
    )
    loss.backward()
    exact_NV = student_NV.detach().double().requires_grad_()
    above_N = exact_NV.log_softmax(1)[range(6), targets_N] - levels_N.double()
    each_N = naive(exact_NV, teacher_NV, targets_N, 4.0) + 0.7 * above_N.clamp(min=0.0)
    expected = (each_N * weights_N).sum() / weights_N.sum()
    expected.backward()
    assert 0 < (above_N > 0).sum() < 6
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(student_NV.grad.double(), exact_NV.grad, rtol=0, atol=1e-6)


def test_floor_by_hand():
    # Teacher (0.9, 0.08, 0.02), label 0 cut to 0.1: the others share 0.9 as 4 : 1, so q = (.1, .72, .18).
    teacher_NV = torch.tensor([[0.9, 0.08, 0.02]]).log()
    student_NV = torch.zeros(1, 3, requires_grad=True)
    soft_label_losses(student_NV, teacher_NV, torch.tensor([0]), floored(0.1)).sum().backward()
    assert student_NV.grad.tolist()[0] == pytest.approx([1 / 3 - 0.1, 1 / 3 - 0.72, 1 / 3 - 0.18], abs=1e-6)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        # Cut to 0.3, the others share 0.7 as 4 : 1; 0.95 is above the teacher's 0.9; ln 1 is no level, and γ cuts it:
        # odds of 9 by e^γ = 9 to 1, and the others share a half as 4 : 1.
        (0.3, [1 / 3 - 0.3, 1 / 3 - 0.56, 1 / 3 - 0.14]),
        (0.95, [1 / 3 - 0.9, 1 / 3 - 0.08, 1 / 3 - 0.02]),
        (1.0, [1 / 3 - 0.5, 1 / 3 - 0.4, 1 / 3 - 0.1]),
    ],
)
def test_a_level_by_hand(level, expected):
    teacher_NV = torch.tensor([[0.9, 0.08, 0.02]]).log()
    student_NV = torch.zeros(1, 3, requires_grad=True)
    there = Pull(torch.tensor([math.log(level)]), 0.0)
    soft_label_losses(student_NV, teacher_NV, torch.tensor([0]), levelled(math.log(9.0)), there).sum().backward()
    assert student_NV.grad.tolist()[0] == pytest.approx(expected, abs=1e-6)


def test_a_label_at_its_level_is_left_there():
    # With the pull as well: the student is at the target, and e^ℓ is not exceeded.
    teacher_NV = torch.tensor([[0.9, 0.08, 0.02]]).log()
    student_NV = torch.tensor([[0.3, 0.56, 0.14]]).log().requires_grad_()
    there = Pull(torch.tensor([math.log(0.3) + 1e-6]), 1.0)
    soft_label_losses(student_NV, teacher_NV, torch.tensor([0]), levelled(30.0), there).sum().backward()
    assert student_NV.grad.abs().max() < 1e-5


def test_floor_leaves_a_label_that_is_already_below_it():
    teacher_NV = torch.tensor([[0.05, 0.80, 0.15]]).log()
    student_NV = teacher_NV.clone().requires_grad_()
    soft_label_losses(student_NV, teacher_NV, torch.tensor([0]), floored(0.1)).sum().backward()
    assert student_NV.grad.abs().max() < 1e-6


def test_a_label_as_good_as_certain_is_still_cut_exactly():
    # p(label) = 1 - 2e-13 has no fp32 complement; its log-odds are 30 - ln 2 all the same.
    teacher_NV = torch.tensor([[30.0, 0.0, 0.0]])
    student_NV = torch.zeros(1, 3, requires_grad=True)
    soft_label_losses(student_NV, teacher_NV, torch.tensor([0]), lowered(30.0)).sum().backward()
    assert student_NV.grad.abs().max() < 1e-6


@given(st.integers(0, 10_000), st.floats(0, 50), st.integers(1, 9), st.integers(2, 40))
@settings(max_examples=60)
def test_agrees_with_the_printed_equation(seed, strength, tokens, words):
    student_NV, teacher_NV, targets_N = random_case(seed, tokens, words)
    reference_NV = student_NV.double().requires_grad_()
    expected_N = naive(reference_NV, teacher_NV, targets_N, strength)
    expected_N.sum().backward()
    student_NV.requires_grad_()
    loss_N = soft_label_losses(student_NV, teacher_NV, targets_N, lowered(strength))
    loss_N.sum().backward()
    torch.testing.assert_close(loss_N.double(), expected_N.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(student_NV.grad.double(), reference_NV.grad, rtol=0, atol=1e-6)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_strength_zero_at_the_teacher_has_no_gradient(seed):
    _, teacher_NV, targets_N = random_case(seed)
    for change in (lowered(0.0), unchanged):
        student_NV = teacher_NV.clone().requires_grad_()
        soft_label_losses(student_NV, teacher_NV, targets_N, change).sum().backward()
        assert student_NV.grad.abs().max() < 1e-6


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_large_strength_is_the_teacher_without_the_label(seed):
    student_NV, teacher_NV, targets_N = random_case(seed)
    without_NV = teacher_NV.double().scatter(1, targets_N.unsqueeze(1), -torch.inf).softmax(1)
    expected_N = -(without_NV * student_NV.double().log_softmax(1)).sum(1)
    loss_N = soft_label_losses(student_NV, teacher_NV, targets_N, lowered(1e4))
    torch.testing.assert_close(loss_N.double(), expected_N, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 8))
@settings(max_examples=25)
def test_chunks_do_not_show(seed, chunk_tokens):
    generator = torch.Generator().manual_seed(seed)
    tokens, width, words = 7, 5, 13
    head = torch.nn.Linear(width, words)
    frozen = torch.nn.Linear(width, words)
    start_ND, teacher_ND = (torch.randn(tokens, width, generator=generator) for _ in range(2))
    targets_N = torch.randint(words, (tokens,), generator=generator)
    weights_N = torch.rand(tokens, generator=generator) + 0.1

    def gradients(chunk):
        hidden_ND = start_ND.clone().requires_grad_()
        loss = soft_label_loss(hidden_ND, head, teacher_ND, frozen, targets_N, weights_N, lowered(4.0), chunk)
        return loss.item(), *torch.autograd.grad(loss, [hidden_ND, head.weight, head.bias])

    hidden_64 = start_ND.double().requires_grad_()
    logits_64 = F.linear(hidden_64, head.weight.double(), head.bias.double())
    frozen_64 = F.linear(teacher_ND.double(), frozen.weight.double(), frozen.bias.double()).detach()
    expected = (naive(logits_64, frozen_64, targets_N, 4.0) * weights_N).sum() / weights_N.double().sum()
    (expected_64,) = torch.autograd.grad(expected, [hidden_64])
    loss, hidden_grad, weight_grad, _ = gradients(chunk_tokens)
    assert loss == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(hidden_grad.double(), expected_64, rtol=0, atol=1e-6)
    torch.testing.assert_close(weight_grad, gradients(1000)[2], rtol=0, atol=1e-6)


def test_hard_labels_are_weighted_cross_entropy():
    logits_NV = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    loss = hard_label_loss(logits_NV, lambda z: z, torch.tensor([0, 1]), torch.tensor([3.0, 1.0]), 1)
    assert loss.item() == pytest.approx((3 * math.log(4 / 3) + math.log(2)) / 4, abs=1e-6)


def test_the_teacher_is_left_alone():
    student_NV, teacher_NV, targets_N = random_case(1)
    before_NV = teacher_NV.clone()
    soft_label_losses(student_NV, teacher_NV, targets_N, lowered(3.0))
    assert torch.equal(teacher_NV, before_NV)
