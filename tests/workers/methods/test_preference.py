"""NPO, SimNPO and IdkDPO."""

import math

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
    nlls,
    random_tokens,
    retain_nll,
)
from workers.batches import Encoded, Row, collate
from workers.methods.answers import Answers, ReferenceAnswers, answers
from workers.methods.idk_dpo import idk_dpo_loss, make_idk_dpo
from workers.methods.npo import make_npo, npo_loss
from workers.methods.simnpo import make_simnpo, simnpo_loss

torch.set_num_threads(1)
WEIGHTS = torch.tensor([row.weight for row in FORGET])
LLMS = pytest.mark.parametrize("make", [make_llama, make_gpt2])


def answer_nlls(llm, rows=FORGET, encoded=lambda row: row.encoded):
    return torch.stack([nlls(llm, encoded(row)).sum() for row in rows])


def over_answers(values_B):
    return (WEIGHTS.double() * values_B).sum() / WEIGHTS.double().sum()


def log_sigmoid(x):
    return -torch.log1p(torch.exp(-x))


def test_npo_by_hand():
    # One answer 2 nats above its reference, β = 1/2: L = -4·ln σ(1) = 1.253; dL/dNLL = -2·σ(-1) = -0.538.
    nll_B = torch.tensor([5.0], requires_grad=True)
    loss = npo_loss(nll_B, torch.tensor([3.0]), torch.ones(1), beta=0.5)
    loss.backward()
    assert loss.item() == pytest.approx(4 * math.log(1 + math.exp(-1)), abs=1e-6)
    assert nll_B.grad.item() == pytest.approx(-2 / (1 + math.e), abs=1e-6)


def test_simnpo_by_hand():
    # 6 nats over 3 tokens, β = 2, δ = 3: L = -ln σ(2·2 - 3) = 0.313; β·(2 - 3) would give -ln σ(-2) = 2.127.
    loss = simnpo_loss(torch.tensor([6.0]), torch.tensor([3.0]), torch.ones(1), beta=2.0, margin=3.0)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_idk_dpo_by_hand():
    # Answer lost 1 nat, refusal won 3, β = 1/4: L = -8·ln σ(1) = 2.506.
    loss = idk_dpo_loss(torch.tensor([1.0]), torch.tensor([-3.0]), torch.ones(1), beta=0.25)
    assert loss.item() == pytest.approx(8 * math.log(1 + math.exp(-1)), abs=1e-6)


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0, 4.5])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15)
def test_equations_agree_with_float64(beta, seed):
    # Tokens 0, 1 are answer 0; 2…5 are answer 1.
    logits_NV, targets_N = random_tokens(seed)
    start_B, lengths_B = torch.tensor([3.0, 9.0]), torch.tensor([2.0, 4.0])

    def ours(loss):
        def run(z):
            return loss(torch.stack([part.sum() for part in cross_entropies(z, targets_N).split([2, 4])]))

        return run

    def exact(value):
        def run(z):
            nll_N = -z.log_softmax(1)[range(6), targets_N]
            nll_B = torch.stack([nll_N[:2].sum(), nll_N[2:].sum()])
            return over_answers(-2 / beta * log_sigmoid(value(nll_B)))

        return run

    agree(logits_NV, ours(lambda nll_B: npo_loss(nll_B, start_B, WEIGHTS, beta)), exact(lambda n: beta * (n - start_B)))
    agree(
        logits_NV,
        ours(lambda nll_B: simnpo_loss(nll_B, lengths_B, WEIGHTS, beta, 0.7)),
        exact(lambda n: beta * n / lengths_B - 0.7),
    )
    agree(
        logits_NV,
        ours(lambda nll_B: idk_dpo_loss(start_B, nll_B, WEIGHTS, beta)),
        exact(lambda n: beta * (start_B - n)),
    )


@LLMS
def test_npo_whole_llm_agrees_with_float64(make):
    def expected(student, teacher):
        ratio_B = answer_nlls(student) - answer_nlls(teacher)
        return over_answers(-2 / 0.5 * log_sigmoid(0.5 * ratio_B)), retain_nll(student), 2.0

    check(make_npo(beta=0.5, retain_weight=2.0), make(seed=1), make(seed=2), expected)


@LLMS
def test_simnpo_whole_llm_agrees_with_float64(make):
    def expected(student, _):
        mean_B = answer_nlls(student) / torch.tensor([2.0, 5.0])
        return over_answers(-2 / 4.5 * log_sigmoid(4.5 * mean_B - 1.0)), retain_nll(student), 8.0

    check(make_simnpo(margin=1.0), make(seed=1), make(seed=2), expected)


@LLMS
def test_idk_dpo_whole_llm_agrees_with_float64(make):
    def expected(student, teacher):
        lost_B = answer_nlls(student) - answer_nlls(teacher)
        refused_B = answer_nlls(student, encoded=lambda row: row.alternative)
        refused_B = refused_B - answer_nlls(teacher, encoded=lambda row: row.alternative)
        return over_answers(-2 / 0.5 * log_sigmoid(0.5 * (lost_B - refused_B))), retain_nll(student), 1.0

    check(make_idk_dpo(beta=0.5), make(seed=1), make(seed=2), expected)


def gradient(loss, llm):
    llm.zero_grad(set_to_none=True)
    loss.backward()
    return torch.cat([one.grad.flatten().double() for one in llm.parameters()])


@given(st.integers(0, 100), st.sampled_from([0.1, 0.5, 2.0]))
@settings(max_examples=5)
def test_npo_gradient_is_weighted_ascent(seed, beta):
    # ∇L = -2·Σ w·σ(-β·r)·∇NLL / Σ w, each answer's NLL differentiated on its own.
    student, teacher = make_llama(seed=seed), make_llama(seed=seed + 1)
    method = make_npo(beta=beta, retain_kind="none")
    batch = collate(FORGET, 0)
    method.prepare(teacher, [batch], level=0.05)
    ours = gradient(method.losses(student, batch, None).forget, student)
    ratio_B = (answer_nlls(student) - answer_nlls(teacher)).detach()
    pressure_B = -2 * WEIGHTS * torch.sigmoid(-beta * ratio_B) / WEIGHTS.sum()
    weighed = sum(
        pressure.double() * gradient(nlls(student, row.encoded).sum(), student)
        for pressure, row in zip(pressure_B, FORGET, strict=True)
    )
    spacing = 2.0**-19  # of fp32 at these NLLs, 16 to 32: r is not known better, and σ's error is β times r's
    atol = (1e-6 + beta * spacing) * max(1.0, weighed.abs().max().item())
    torch.testing.assert_close(ours, weighed, rtol=0, atol=atol)


def test_npo_with_a_small_beta_points_where_ascent_points():
    student, teacher = make_llama(seed=1), make_llama(seed=2)
    batch = collate(FORGET, 0)
    ascent = gradient(-over_answers(answer_nlls(student)).float(), student)

    def cosine(beta):
        method = make_npo(beta=beta, retain_kind="none")
        method.prepare(teacher, [batch], level=0.05)
        ours = gradient(method.losses(student, batch, None).forget, student)
        return (torch.nn.functional.cosine_similarity(ours, ascent, dim=0).item(), (ours.norm() / ascent.norm()).item())

    direction, size = cosine(1e-4)
    assert direction == pytest.approx(1.0, abs=1e-6)
    assert size == pytest.approx(1.0, abs=1e-3)
    assert cosine(1.0)[0] < direction


def test_simnpo_at_the_same_mean_surprise_gives_long_answers_no_more_pressure():
    nll_B = torch.tensor([4.0, 40.0], requires_grad=True)
    simnpo_loss(nll_B, torch.tensor([2.0, 20.0]), torch.ones(2), 4.5, 0.0).backward()
    per_answer = nll_B.grad * torch.tensor([2.0, 20.0])
    assert per_answer[0].item() == pytest.approx(per_answer[1].item(), rel=1e-5)


def test_refusals_gain_what_answers_lose():
    student = make_llama(seed=1)
    method = make_idk_dpo(retain_kind="none")
    batch = collate(FORGET, 0)
    method.prepare(student, [batch], level=0.05)
    before = answer_nlls(student, encoded=lambda row: row.alternative).detach(), answer_nlls(student).detach()
    optimiser = torch.optim.SGD(student.parameters(), lr=0.05)
    for _ in range(5):
        optimiser.zero_grad()
        method.losses(student, batch, None).forget.backward()
        optimiser.step()
    assert (answer_nlls(student, encoded=lambda row: row.alternative) < before[0]).all()
    assert (answer_nlls(student) > before[1]).all()


def test_references_are_one_number_a_row_and_stay():
    llm = make_llama(seed=1)
    kept = ReferenceAnswers(llm, [collate(FORGET, 0), collate(RETAIN, 0)])
    expected = answer_nlls(llm, [FORGET[1], RETAIN[0]]).detach()
    with torch.no_grad():
        llm.lm_head.weight.zero_()
    found = kept.of_rows(collate([FORGET[1], RETAIN[0]], 0))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


def test_answers_by_hand():
    # Row 0: 1 + 2 nats, row 1: none, row 2: 4 nats.
    found = Answers(
        torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2]), torch.ones(3), torch.tensor([1.0, 0.0, 1.0])
    )
    assert found.of_rows().tolist() == [3.0, 0.0, 4.0]
    assert found.lengths().tolist() == [2.0, 0.0, 1.0]


def test_a_row_without_a_label_does_not_count():
    llm = make_llama(seed=1)
    silent = Row(9, Encoded((5, 6, 7), (-100, -100, -100)), 5.0)
    batch = collate([FORGET[0], silent], 0)
    assert answers(llm, batch).weights_B.tolist() == [1.0, 0.0]
    assert batch.row_weight == 1.0


def test_idk_dpo_without_refusals_says_so():
    bare = collate([Row(row.key, row.encoded) for row in FORGET], 0)
    with pytest.raises(ValueError, match="alternative"):
        make_idk_dpo().prepare(make_llama(), [bare], level=0.05)
