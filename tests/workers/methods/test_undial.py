import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from tests.make_llm import make_gpt2, make_llama
from workers.batches import Encoded, Row, collate
from workers.methods.head import UnknownHeadError, check_head
from workers.methods.undial import Undial

torch.set_num_threads(1)

ROWS = [
    Row(0, Encoded((5, 6, 7, 8), (-100, -100, 7, 8)), 1.0),
    Row(1, Encoded((9, 10, 11, 12, 13, 14), (-100, 10, 11, 12, 13, 14)), 0.5),
]


def reference(student, teacher, strength):
    """The printed equation in float64 on whole logits, unpadded row by row."""
    total = weight = 0.0
    student, teacher = student.double(), teacher.double()
    for row in ROWS:
        ids = torch.tensor([row.encoded.ids])
        with torch.no_grad():
            adjusted_TV = teacher(input_ids=ids).logits[0]
        logits_TV = student(input_ids=ids).logits[0]
        for at, label in enumerate(row.encoded.labels):
            if label < 0:
                continue
            q_V = (adjusted_TV[at - 1] - strength * F.one_hot(torch.tensor(label), 64)).softmax(0)
            total = total - row.weight * (q_V * logits_TV[at - 1].log_softmax(0)).sum()
            weight += row.weight
    return total / weight


@pytest.mark.parametrize("make", [make_llama, make_gpt2])
@pytest.mark.parametrize("chunk_tokens", [1, 3, 512])
def test_whole_llm_agrees_with_float64(make, chunk_tokens):
    student, teacher = make(seed=1), make(seed=2)
    method = Undial(strength=7.0)
    method.chunk_tokens = chunk_tokens
    method.prepare(teacher, [collate(ROWS, 0)], level=0.1)
    loss = method.losses(student, collate(ROWS, 0), None).forget
    loss.backward()
    grads = {name: one.grad.double() for name, one in student.named_parameters()}
    student.zero_grad()
    expected = reference(student, teacher, 7.0)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=2e-6)
    for name, one in student.named_parameters():
        torch.testing.assert_close(grads[name], one.grad, rtol=1e-4, atol=2e-6)


def test_cached_teacher_equals_asking_it_live():
    student, teacher = make_llama(seed=1), make_llama(seed=2)
    together, apart = Undial(), Undial()
    together.prepare(teacher, [collate(ROWS, 0)], level=0.1)
    apart.prepare(teacher, [collate([row], 0) for row in ROWS], level=0.1)
    losses = [one.losses(student, collate(ROWS, 0), None).forget.item() for one in (together, apart)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_a_row_of_weight_zero_has_no_say():
    student = make_llama(seed=1)
    method = Undial()
    method.prepare(make_llama(seed=2), [collate(ROWS, 0)], level=0.1)
    alone = method.losses(student, collate(ROWS[:1], 0), None).forget.item()
    silent = [ROWS[0], Row(1, ROWS[1].encoded, 0.0)]
    assert method.losses(student, collate(silent, 0), None).forget.item() == pytest.approx(alone, abs=1e-6)


def test_distilling_at_the_teacher_has_no_gradient():
    student = make_llama(seed=1)
    method = Undial(retain_kind="distill")
    method.prepare(student, [collate(ROWS, 0)], level=0.1)
    losses = method.losses(student, None, collate(ROWS, 0))
    method.backward(losses, list(student.parameters()))
    assert max(one.grad.abs().max().item() for one in student.parameters()) < 1e-6


def test_retain_nll_is_the_llm_own_loss():
    student = make_llama(seed=1)
    method = Undial(retain_kind="nll")
    batch = collate([ROWS[1]], 0)
    method.prepare(student, [batch], level=0.1)
    ours = method.losses(student, None, batch).retain.item()
    assert ours == pytest.approx(student(input_ids=batch.ids_BT, labels=batch.labels_BT).loss.item(), abs=1e-5)


def test_retain_weight_multiplies():
    student = make_llama(seed=1)
    totals = []
    for weight in (1.0, 3.0):
        method = Undial(retain_kind="nll", retain_weight=weight)
        method.prepare(student, [collate(ROWS, 0)], level=0.1)
        student.zero_grad()
        method.backward(method.losses(student, None, collate(ROWS, 0)), list(student.parameters()))
        totals.append(student.model.norm.weight.grad.clone())
    torch.testing.assert_close(totals[1], 3 * totals[0])


def test_the_floor_follows_a_lower_never_trained_level():
    # At the target the label has half the level's probability, and the loss is the entropy of that target.
    student = make_llama(seed=1)
    method = Undial(target="floor", floor=0.02)
    method.prepare(student, [collate(ROWS, 0)], level=0.001)
    odds_N = method._change(torch.tensor([9.0, -9.0]), torch.zeros(2))
    assert odds_N.tolist() == pytest.approx([math.log(0.0005 / 0.9995), -9.0], abs=1e-5)


def test_the_level_is_the_target_where_one_is_known():
    # By the equation: CE to the teacher with each label cut to its level, and γ's target where rows have no levels.
    student, teacher = make_llama(seed=1), make_llama(seed=2)
    row = Row(0, replace(ROWS[0].encoded, token_levels=(0.0, 0.0, math.log(0.001), math.log(0.9999))), 1.0)
    method = Undial(target="level", level_weight=0.0)
    method.prepare(teacher, [collate([row], 0)], level=0.1)
    with torch.no_grad():
        logits_TV, z_TV = (
            llm(input_ids=torch.tensor([row.encoded.ids])).logits[0].double() for llm in (student, teacher)
        )
    expected = 0.0
    for at, label, level in ((1, 7, 0.001), (2, 8, 0.9999)):
        q_V = z_TV[at].softmax(0)
        kept = min(level, q_V[label].item())
        q_V = q_V * (1 - kept) / (1 - q_V[label])
        q_V[label] = kept
        expected -= (q_V * logits_TV[at].log_softmax(0)).sum().item() / 2
    assert method.losses(student, collate([row], 0), None).forget.item() == pytest.approx(expected, abs=2e-6)
    unknown = [Undial(target=target) for target in ("level", "gamma")]
    for one in unknown:
        one.prepare(teacher, [collate(ROWS, 0)], level=0.1)
    first, second = (one.losses(student, collate(ROWS, 0), None).forget.item() for one in unknown)
    assert first == second


def test_capped_logits_are_read_from_the_configuration():
    llm = make_llama(seed=1)
    batch = collate(ROWS, 0)
    assert check_head(llm, batch.ids_BT, batch.mask_BT)
    llm.config.final_logit_softcapping = 0.5
    assert not check_head(llm, batch.ids_BT, batch.mask_BT)
    with pytest.raises(UnknownHeadError, match="head"):
        Undial().prepare(llm, [batch], level=0.1)


def test_a_capped_architecture_is_reproduced():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0, initializer_range=0.5,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, attn_implementation="eager",
    )  # fmt: skip
    llm = Gemma2ForCausalLM(config).eval()
    batch = collate(ROWS, 0)
    assert check_head(llm, batch.ids_BT, batch.mask_BT)


def test_half_precision_matmuls_stay_near_the_fp32_loss():
    student, batch = make_llama(seed=1), collate(ROWS, 0)
    exact, half = Undial(), Undial()
    exact.prepare(make_llama(seed=2), [batch], level=0.1)
    expected = exact.losses(student, batch, None).forget.item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half.prepare(make_llama(seed=2), [batch], level=0.1)
        loss = half.losses(student, batch, None).forget
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, abs=0.05)
    assert all(torch.isfinite(one.grad).all() for one in student.parameters())


def test_losses_before_prepare_say_so():
    with pytest.raises(RuntimeError, match="prepare"):
        Undial().losses(make_llama(), collate(ROWS, 0), None)
