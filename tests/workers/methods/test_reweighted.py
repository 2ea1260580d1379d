"""CE-U and WGA."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.make_llm import make_gpt2, make_llama
from tests.workers.methods.reference import (
    FORGET,
    agree,
    check,
    cross_entropies,
    logits,
    nlls,
    random_tokens,
    retain_nll,
    token_mean,
)
from workers.batches import Encoded, Row, collate
from workers.methods.answers import weighted_mean
from workers.methods.ce_u import after_the_first, ce_u_losses, make_ce_u
from workers.methods.gradient_ascent import ascent_loss
from workers.methods.wga import make_wga, wga_loss

torch.set_num_threads(1)
LLMS = pytest.mark.parametrize("make", [make_llama, make_gpt2])


def without_the_label(logits_NV, targets_N):
    """CE(softmax(stop-gradient z, z_y = -∞), p) as it is printed."""
    target_NV = logits_NV.detach().scatter(1, targets_N.unsqueeze(1), -torch.inf).softmax(1)
    return -(target_NV * logits_NV.log_softmax(1)).sum(1)


def test_ce_u_by_hand():
    # p = (1/2, 1/4, 1/4), label 0: q = (0, 1/2, 1/2), L = ln 4; gradient p - q = (1/2, -1/4, -1/4).
    logits_NV = torch.tensor([[math.log(2.0), 0.0, 0.0]], requires_grad=True)
    loss_N = ce_u_losses(logits_NV, torch.tensor([0]))
    loss_N.sum().backward()
    assert loss_N.item() == pytest.approx(math.log(4), abs=1e-6)
    assert logits_NV.grad.tolist()[0] == pytest.approx([0.5, -0.25, -0.25], abs=1e-6)


def test_wga_by_hand():
    # p = 1/2, β = 2: L = -(1/4)·ln 2 and dL/dNLL = -1/4; with β = 0 it is ascent.
    nll_N = torch.tensor([math.log(2.0)], requires_grad=True)
    loss = wga_loss(nll_N, torch.ones(1), beta=2.0)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(2) / 4)
    assert nll_N.grad.item() == pytest.approx(-0.25)
    assert wga_loss(nll_N, torch.ones(1), beta=0.0).item() == ascent_loss(nll_N, torch.ones(1), math.inf).item()


@given(st.integers(0, 10_000), st.floats(0, 3))
@settings(max_examples=30)
def test_equations_agree_with_float64(seed, beta):
    logits_NV, targets_N = random_tokens(seed)
    weights_N = torch.rand(6, generator=torch.Generator().manual_seed(seed)) + 0.1
    agree(
        logits_NV,
        lambda z: weighted_mean(ce_u_losses(z, targets_N), weights_N),
        lambda z: (weights_N * without_the_label(z, targets_N)).sum() / weights_N.double().sum(),
    )

    def exact(z):
        logp_N = z.log_softmax(1)[range(6), targets_N]
        return (weights_N * (beta * logp_N.detach()).exp() * logp_N).sum() / weights_N.double().sum()

    agree(logits_NV, lambda z: wga_loss(cross_entropies(z, targets_N), weights_N, beta), exact)


@LLMS
def test_ce_u_whole_llm_agrees_with_float64(make):
    def expected(student, _):
        return token_mean(student, FORGET, lambda llm, row: without_the_label(*logits(llm, row.encoded))), None, 0.0

    check(make_ce_u(), make(seed=1), make(seed=2), expected)


@LLMS
def test_wga_whole_llm_agrees_with_float64(make):
    def expected(student, _):
        def value(llm, row):
            nll_N = nlls(llm, row.encoded)
            return -(-1.5 * nll_N.detach()).exp() * nll_N

        return token_mean(student, FORGET, value), retain_nll(student), 2.0

    check(make_wga(beta=1.5, retain_kind="nll", retain_weight=2.0), make(seed=1), make(seed=2), expected)


@pytest.mark.parametrize("probability", [0.5, 1e-3, 1e-6])
def test_pressure_fades_with_the_label(probability):
    # Both gradients on the label's logit are p or p·(1 - p): ascent's would be 1 - p, the largest when p is gone.
    logits_NV = torch.tensor([[math.log(probability), math.log(1 - probability)]], requires_grad=True)
    ce_u_losses(logits_NV, torch.tensor([0])).sum().backward()
    assert logits_NV.grad[0, 0].item() == pytest.approx(probability, rel=1e-4)
    single_NV = logits_NV.detach().clone().requires_grad_()
    wga_loss(cross_entropies(single_NV, torch.tensor([0])), torch.ones(1), 1.0).backward()
    assert single_NV.grad[0, 0].item() == pytest.approx(probability * (1 - probability), rel=1e-4)


def test_the_first_token_of_longer_answers_can_be_left_alone():
    rows_N = torch.tensor([0, 0, 0, 1, 2, 2])
    assert after_the_first(rows_N).tolist() == [0, 1, 1, 1, 0, 1]
    student = make_llama(seed=1)
    method = make_ce_u(skip_first=True)
    batch = collate(FORGET, 0)
    method.prepare(student, [batch], level=0.05)
    loss = method.losses(student, batch, None).forget.item()
    later = [
        Row(row.key, Encoded(row.encoded.ids, (-100,) * first + row.encoded.labels[first:]), row.weight)
        for row, first in zip(FORGET, (3, 2), strict=True)
    ]
    plain = make_ce_u()
    plain.prepare(student, [collate(later, 0)], level=0.05)
    assert loss == pytest.approx(plain.losses(student, collate(later, 0), None).forget.item(), abs=1e-6)
    assert method.batch_weight(batch) == collate(later, 0).token_weight
