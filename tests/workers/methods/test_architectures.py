"""The losses on every architecture: against the whole LLM in float64, which knows nothing of how heads are applied."""

import pytest
import torch

from tests.make_architectures import ARCHITECTURES, make_architecture
from tests.workers.methods.reference import FORGET, RETAIN, check, logits, nlls, retain_nll, token_mean
from workers.batches import collate
from workers.methods import METHODS
from workers.methods.answers import answers
from workers.methods.ascent_kl import make_ascent_kl
from workers.methods.ce_u import make_ce_u
from workers.methods.npo import make_npo

torch.set_num_threads(1)
pytestmark = pytest.mark.parametrize("name", ARCHITECTURES)
OF_THE_LAST_STATE = [one for one in METHODS if one not in {"rmu", "falcon"}]


def test_losses_and_gradients_agree_with_float64(name):
    def preferred(student, teacher):
        ratio_B = torch.stack([(nlls(student, row.encoded) - nlls(teacher, row.encoded)).sum() for row in FORGET])
        losses_B = 2 / 0.5 * torch.log1p(torch.exp(-0.5 * ratio_B))
        return (losses_B * torch.tensor([1.0, 0.5])).sum() / 1.5, retain_nll(student), 1.0

    def climbed(student, teacher):
        def kl(student, row):
            before_NV = logits(teacher, row.encoded)[0].log_softmax(1)
            return (before_NV.exp() * (before_NV - logits(student, row.encoded)[0].log_softmax(1))).sum(1)

        ascent = -token_mean(student, FORGET, lambda llm, row: nlls(llm, row.encoded))
        return ascent, token_mean(student, RETAIN, kl), 1.0

    # Four fp32 layers lose more than the losses do: up to 2e-6 of Gemma 2's own cross-entropy's gradient.
    for method, expected in ((make_npo(beta=0.5), preferred), (make_ascent_kl(ceiling=None), climbed)):
        check(method, make_architecture(name, seed=1), make_architecture(name, seed=2), expected, tolerance=5e-6)


@pytest.mark.parametrize("method", OF_THE_LAST_STATE)
def test_every_method_runs_and_moves_weights(name, method):
    student = make_architecture(name, seed=1)
    made = METHODS[method]()
    made.prepare(student, [collate([*FORGET, *RETAIN], 0)], level=0.05)
    losses = made.losses(student, collate(FORGET, 0), collate(RETAIN, 0))
    made.backward(losses, list(student.parameters()))
    grads = [one.grad for one in student.parameters() if one.grad is not None]
    assert torch.isfinite(losses.forget)
    assert all(torch.isfinite(one).all() for one in grads)
    assert max(one.abs().max() for one in grads) > 0


def test_chunks_do_not_show(name, monkeypatch):
    student, batch = make_architecture(name, seed=1), collate(FORGET, 0)

    def run(chunk_tokens):
        monkeypatch.setattr("workers.methods.ce_u.CHUNK_TOKENS", chunk_tokens)
        method = make_ce_u()
        method.prepare(student, [batch], level=0.05)
        student.zero_grad(set_to_none=True)
        total = method.losses(student, batch, None).forget + answers(student, batch, chunk_tokens).of_rows().sum()
        total.backward()
        return total.detach(), *(one.grad for one in student.parameters())

    for one, whole in zip(run(2), run(1000), strict=True):
        torch.testing.assert_close(one, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", OF_THE_LAST_STATE)
def test_half_precision_matmuls_stay_near_the_fp32_loss(name, method):
    student, rows = make_architecture(name, seed=1), collate([*FORGET, *RETAIN], 0)

    def run(*, half):
        made = METHODS[method]()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            made.prepare(make_architecture(name, seed=2), [rows], level=0.05)
            losses = made.losses(student, collate(FORGET, 0), collate(RETAIN, 0))
        assert {one.dtype for one in (losses.forget, losses.retain) if one is not None} == {torch.float32}
        return losses.forget.item()

    if method != "adversarial_labels":  # its labels are an argmax, which half precision may decide otherwise
        assert run(half=True) == pytest.approx(run(half=False), rel=0.05, abs=0.1)
    else:
        assert run(half=True) > 0
