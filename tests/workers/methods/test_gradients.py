"""Conflicting gradients: numbers by hand, and what a projection must keep whatever the numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.methods.conflicts import Rule, resolve
from workers.methods.falcon_conflicts import GradientPair
from workers.methods.gradients import cosine, dot, without

torch.set_num_threads(1)
seeds = st.integers(0, 2**31 - 1)


def gradient(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator) for shape in ((3, 4), (5,))]


def test_cosine_and_projection_by_hand():
    # u = (3, 4), r = (-1, 0): cos = -3/5, and what is left of u is (0, 4).
    u, r = [torch.tensor([3.0]), torch.tensor([4.0])], [torch.tensor([-1.0]), torch.tensor([0.0])]
    assert float(cosine(u, r)) == pytest.approx(-0.6)
    assert [one.item() for one in without(u, r)] == [0.0, 4.0]
    assert [one.item() for one in resolve(u, r, Rule("global", (1.0, 1.0), (5.0, 5.0)))] == [-1.0, 4.0]


def test_per_tensor_and_global_are_two_methods():
    # First tensor conflicts (3·-1 < 0), second agrees (4·4 > 0); together ⟨u, r⟩ = 13: they agree.
    u, r = [torch.tensor([3.0]), torch.tensor([4.0])], [torch.tensor([-1.0]), torch.tensor([4.0])]
    code = ((0.8, 1.2), (0.1, 1.9))
    together = resolve(u, r, Rule("global", *code))
    apart = resolve(u, r, Rule("tensor", *code))
    assert [one.item() for one in together] == pytest.approx([0.1 * 3 - 1.9, 0.1 * 4 + 1.9 * 4])
    assert [one.item() for one in apart] == pytest.approx([0.0 - 1.2, 0.1 * 4 + 1.9 * 4])


def test_round_off_is_no_retain_gradient():
    # A millionth of u's length: its direction is chance. A thousandth counts.
    u = [torch.tensor([3.0, 4.0])]
    kept, projected = (resolve(u, [torch.tensor([-size, 0.0])], Rule("global"))[0] for size in (5e-6, 5e-3))
    torch.testing.assert_close(kept, torch.tensor([3.0, 4.0]), rtol=0.0, atol=1e-5)
    torch.testing.assert_close(projected, torch.tensor([-5e-3, 4.0]))


def test_off_only_adds():
    u, r = gradient(0), [-one for one in gradient(0)]
    assert all(torch.all(one == 0) for one in resolve(u, r, Rule("off", (1.0, 1.0), (1.0, 1.0))))


def test_nothing_to_retain_leaves_the_forget_gradient_whole():
    u, r = gradient(1), [torch.zeros(3, 4), torch.zeros(5)]
    assert float(cosine(u, r)) == 0.0
    for kept, one in zip(resolve(u, r, Rule("tensor", (9.0, 9.0), (0.1, 1.9))), u, strict=True):
        torch.testing.assert_close(kept, 0.1 * one)


@given(seeds, st.floats(1e-6, 1e6))
@settings(max_examples=40)
def test_what_is_left_is_orthogonal_at_any_scale(seed, scale):
    u, r = gradient(seed), gradient(seed + 1, scale)
    left = without(u, r)
    assert abs(float(dot(left, r))) <= 1e-6 * float((dot(u, u) * dot(r, r)).sqrt())


@given(seeds)
@settings(max_examples=40)
def test_the_combined_step_never_undoes_the_retain_step(seed):
    u, r = gradient(seed), gradient(seed + 1)
    g = resolve(u, r, Rule("global", (1.0, 1.0), (1.0, 1.0)))
    assert float(dot(g, r)) >= float(dot(r, r)) * (1 - 1e-6)
    for one, other in zip(resolve(u, r, Rule("tensor", (1.0, 1.0), (1.0, 1.0))), r, strict=True):
        assert float(dot([one], [other])) >= float(dot([other], [other])) * (1 - 1e-6)


def test_parts_of_a_batch_are_resolved_as_the_whole():
    generator = torch.Generator().manual_seed(3)
    weight = torch.nn.Parameter(torch.randn(4, 4, generator=generator))
    x = torch.randn(6, 4, generator=generator)
    rule = Rule("tensor", (0.8, 1.2), (0.1, 1.9))
    whole, parts = GradientPair(rule), GradientPair(rule)

    def sides(rows):
        return (x[rows] @ weight).tanh().sum(), (x[rows] @ weight).square().sum() * -0.1

    whole.add({"w": weight}, *sides(slice(0, 6)))
    expected, weight.grad = weight.grad, None
    parts.add({"w": weight}, sides(slice(0, 2))[0], None)
    parts.add({"w": weight}, sides(slice(2, 6))[0], sides(slice(0, 6))[1])
    torch.testing.assert_close(weight.grad, expected)
    assert parts.numbers()["steps"] == 1
    assert parts.numbers()["together"]["mean"] == pytest.approx(whole.numbers()["together"]["mean"])
    weight.grad = None
    parts.add({"w": weight}, *sides(slice(0, 6)))
    assert parts.numbers()["steps"] == 2
    assert parts.numbers()["by_weight"]["w"]["mean"] == pytest.approx(whole.numbers()["by_weight"]["w"]["mean"])


def test_a_step_of_one_side_has_no_cosine():
    weight = torch.nn.Parameter(torch.tensor([2.0, 3.0]))
    pair = GradientPair(Rule("global", (1.0, 1.0), (1.0, 1.0)))
    for forget, retain in ((weight.sum(), -weight.square().sum()), (None, weight.sum()), (weight.sum(), None)):
        weight.grad = None
        pair.add({"w": weight}, forget, retain)
    assert pair.numbers()["steps"] == 1
    assert pair.numbers()["together"] == pair.numbers()["by_weight"]["w"]
    assert pair.numbers()["together"]["mean"] == pytest.approx(-5 / 26**0.5)


def test_gradients_left_by_somebody_else_do_not_count():
    weight = torch.nn.Parameter(torch.tensor([2.0, 3.0]))
    weight.grad = torch.tensor([100.0, 100.0])
    pair = GradientPair(Rule("global", (1.0, 1.0), (1.0, 1.0)))
    pair.add({"w": weight}, weight.square().sum(), None)
    assert weight.grad.tolist() == [4.0, 6.0]
    pair.add({"w": weight}, None, weight.sum())
    assert weight.grad.tolist() == [5.0, 7.0]
