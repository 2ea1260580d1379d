"""Gradient ascent and its two companions."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.make_llm import make_gpt2, make_llama
from tests.workers.methods.reference import (
    FORGET,
    RETAIN,
    agree,
    check,
    cross_entropies,
    logits,
    nlls,
    random_tokens,
    retain_nll,
    token_mean,
)
from workers.batches import collate
from workers.methods.ascent_descent import make_ascent_descent
from workers.methods.ascent_kl import make_ascent_kl
from workers.methods.divergence import divergences, teacher_divergences
from workers.methods.gradient_ascent import ascent_loss, make_gradient_ascent, most_surprise, most_surprises

torch.set_num_threads(1)


def climbed(llm):
    return -token_mean(llm, FORGET, lambda llm, row: nlls(llm, row.encoded))


def kept(student, teacher):
    def kl(student, row):
        with torch.no_grad():
            before_NV = logits(teacher, row.encoded)[0].log_softmax(1)
        after_NV = logits(student, row.encoded)[0].log_softmax(1)
        return (before_NV.exp() * (before_NV - after_NV)).sum(1)

    return token_mean(student, RETAIN, kl)


def test_ascent_by_hand():
    # Surprises 1 and 3 nats with weights 3 and 1; the second counts up to 2 and pushes no more.
    nll_N = torch.tensor([1.0, 3.0], requires_grad=True)
    loss = ascent_loss(nll_N, torch.tensor([3.0, 1.0]), most_nll=2.0)
    loss.backward()
    assert loss.item() == pytest.approx(-(3 * 1 + 1 * 2) / 4)
    assert nll_N.grad.tolist() == [-0.75, 0.0]


def test_the_ceiling_is_a_multiple_of_the_never_trained_surprise():
    assert most_surprise(2.0, 0.1) == pytest.approx(2 * math.log(10))
    assert most_surprise(None, 0.1) == math.inf
    assert most_surprise(2.0, 0.01) == pytest.approx(2 * math.log(100))
    assert most_surprise(3.0, 1.0) == pytest.approx(3 * math.log(10))


def test_a_token_may_be_pushed_to_a_multiple_of_its_own_level_by_hand():
    # Levels of e^-4, e^-1 and none known: with 2 ln 10 = 4.605 for all, up to 8, 4.605 and 4.605 nats. Now at 7 each.
    most_N = most_surprises(2.0, torch.tensor([-4.0, -1.0, 0.0]), most_surprise(2.0, 0.1))
    assert most_N.tolist() == pytest.approx([8.0, 4.60517, 4.60517])
    nll_N = torch.full((3,), 7.0, requires_grad=True)
    loss = ascent_loss(nll_N, torch.ones(3), most_N)
    loss.backward()
    assert loss.item() == pytest.approx(-(7 + 2 * 4.60517) / 3)
    assert nll_N.grad.tolist() == pytest.approx([-1 / 3, 0.0, 0.0])


def test_an_item_whose_own_level_is_below_the_mean_is_pushed_on():
    """Words of a random LLM are at about ln 64 = 4.2 nats, above the ceiling of ln 10."""
    student = make_llama(seed=1)
    own = [replace(one, encoded=replace(one.encoded, token_levels=(-9.0,) * len(one.encoded.ids))) for one in FORGET]
    mean = token_mean(student, FORGET, lambda llm, row: nlls(llm, row.encoded)).item()

    def loss(rows, ceiling):
        method = make_gradient_ascent(ceiling=ceiling)
        method.prepare(student, [collate(rows, 0)], level=0.1)
        return method.losses(student, collate(rows, 0), None).forget.item()

    assert loss(FORGET, 1.0) == pytest.approx(-math.log(10))
    assert loss(own, 1.0) == loss(own, None) == pytest.approx(-mean)


def test_kl_by_hand():
    # Teacher (3/4, 1/4), student (1/2, 1/2): 3/4·ln(3/2) + 1/4·ln(1/2); gradient p_student - p_teacher.
    student_NV = torch.zeros(1, 2, requires_grad=True)
    kl_N = divergences(student_NV, torch.tensor([[math.log(3.0), 0.0]]))
    kl_N.sum().backward()
    assert kl_N.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-7)
    assert student_NV.grad.tolist()[0] == pytest.approx([0.5 - 0.75, 0.5 - 0.25], abs=1e-7)


@given(st.integers(0, 10_000), st.floats(0.5, 10))
@settings(max_examples=30)
def test_ascent_agrees_with_float64(seed, most_nll):
    logits_NV, targets_N = random_tokens(seed)
    weights_N = torch.rand(6, generator=torch.Generator().manual_seed(seed)) + 0.1

    def exact(logits_NV):
        nll_N = -logits_NV.log_softmax(1)[range(6), targets_N]
        counted_N = torch.where(nll_N < most_nll, nll_N, torch.full_like(nll_N, most_nll))
        return -(weights_N * counted_N).sum() / weights_N.double().sum()

    agree(logits_NV, lambda z: ascent_loss(cross_entropies(z, targets_N), weights_N, most_nll), exact)


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_kl_agrees_with_float64_and_is_never_negative(seed):
    teacher_NV, _ = random_tokens(seed)
    student_NV, _ = random_tokens(seed + 1)
    before_NV = teacher_NV.double().log_softmax(1)
    agree(
        student_NV,
        lambda z: divergences(z, teacher_NV).sum(),
        lambda z: (before_NV.exp() * (before_NV - z.log_softmax(1))).sum(),
    )
    assert divergences(student_NV, teacher_NV).min() >= -1e-6


@given(st.integers(0, 1000), st.integers(1, 8))
@settings(max_examples=15)
def test_kl_chunks_do_not_show(seed, chunk_tokens):
    generator = torch.Generator().manual_seed(seed)
    head, frozen = torch.nn.Linear(5, 13), torch.nn.Linear(5, 13)
    start_ND, teacher_ND = (torch.randn(7, 5, generator=generator) for _ in range(2))

    def run(chunk):
        hidden_ND = start_ND.clone().requires_grad_()
        kl_N = teacher_divergences(hidden_ND, head, teacher_ND, frozen, chunk)
        return kl_N.detach(), *torch.autograd.grad(kl_N.sum(), [hidden_ND, head.weight])

    for one, whole in zip(run(chunk_tokens), run(1000), strict=True):
        torch.testing.assert_close(one, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [make_llama, make_gpt2])
def test_whole_llm_agrees_with_float64(make):
    student, teacher = make(seed=1), make(seed=2)
    check(make_gradient_ascent(ceiling=None), student, teacher, lambda student, _: (climbed(student), None, 0.0))
    check(
        make_ascent_descent(ceiling=None, retain_weight=3.0),
        student,
        teacher,
        lambda student, _: (climbed(student), retain_nll(student), 3.0),
    )
    check(
        make_ascent_kl(ceiling=None, retain_weight=3.0),
        student,
        teacher,
        lambda student, teacher: (climbed(student), kept(student, teacher), 3.0),
    )


def test_kl_is_zero_at_the_start_and_has_no_gradient_there():
    student = make_llama(seed=1)
    method = make_ascent_kl()
    method.prepare(student, [collate([*FORGET, *RETAIN], 0)], level=0.05)
    losses = method.losses(student, None, collate(RETAIN, 0))
    method.backward(losses, list(student.parameters()))
    assert abs(losses.retain.item()) < 1e-6
    assert max(one.grad.abs().max().item() for one in student.parameters()) < 1e-6


def test_ascent_ends_by_itself_at_the_ceiling():
    # 400 large steps: without a ceiling the loss falls for ever, with one it cannot pass it.
    def climb(ceiling):
        student = make_llama(seed=1)
        method = make_gradient_ascent(ceiling=ceiling)
        method.prepare(student, [collate(FORGET, 0)], level=0.01)
        optimiser = torch.optim.AdamW(student.parameters(), lr=1e-2)
        for _ in range(400):
            optimiser.zero_grad()
            losses = method.losses(student, collate(FORGET, 0), None)
            method.backward(losses, list(student.parameters()))
            optimiser.step()
        return losses.forget.item()

    most = 1.5 * math.log(100)
    assert climb(1.5) == pytest.approx(-most, rel=1e-5)
    assert climb(None) < -2 * most


def test_losses_before_prepare_say_so():
    with pytest.raises(RuntimeError, match="prepare"):
        make_gradient_ascent().losses(make_llama(), collate(FORGET, 0), None)
