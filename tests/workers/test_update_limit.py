"""The ball that no step leaves: numbers by hand, then the loop, which holds it through a broken step too."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

from tests.make_people import TRAINED, both_phrasings, memorised, people
from workers.loop import UnlearnWork, unlearn
from workers.update_limit import UpdateLimit, distance, radius, within

torch.set_num_threads(1)

FORGET, OTHERS = people(TRAINED[:1]), people(TRAINED[1:])
FAST = {"learning_rate": 1e-3, "target": "floor", "epochs": 6, "stop_ratio": 0.1, "repair_steps": 2}
LIMIT = 0.01


def run(harm=lambda _llm, _progress: None, **parameters):
    llm, tokenizer = memorised()
    work = UnlearnWork(forget=FORGET, retain=both_phrasings(OTHERS), parameters=FAST | parameters)

    def on_step(progress):
        with torch.no_grad():
            harm(llm, progress)

    return llm, unlearn(llm, tokenizer, work, on_step)


def relative_changes(llm):
    untouched, _ = memorised()
    pairs = zip(llm.parameters(), untouched.parameters(), strict=True)
    return [float((one - start).detach().norm() / start.detach().norm()) for one, start in pairs]


def test_the_nearest_weights_inside_by_hand():
    # ‖W₀‖ = 5, so that a limit of 0.2 is a ball of radius 1; (3, 8) lies four away and comes back along its own way.
    base = torch.tensor([[3.0, 4.0]])
    assert float(radius(base, 0.2)) == pytest.approx(1.0)
    assert float(distance(torch.tensor([[3.0, 8.0]]), base)) == pytest.approx(4.0)
    torch.testing.assert_close(within(torch.tensor([[3.0, 8.0]]), base, 0.2), torch.tensor([[3.0, 5.0]]))
    # (6, 8) - (3, 4) = (3, 4) is five long: a fifth of it is left.
    torch.testing.assert_close(within(torch.tensor([[6.0, 8.0]]), base, 0.2), torch.tensor([[3.6, 4.8]]))


def test_weights_inside_stay_to_the_bit_and_zeros_stay_zero():
    base, inside = torch.tensor([3.0, 4.0]), torch.tensor([3.1, 4.3])
    assert torch.equal(within(inside, base, 0.2), inside)
    assert torch.equal(within(base, base, 0.2), base)
    assert torch.equal(within(torch.tensor([1.0, -2.0]), torch.zeros(2), 0.2), torch.zeros(2))


def test_what_is_no_number_stays_none():
    # A broken step must still be seen as one.
    assert bool(within(torch.tensor([math.nan, 1.0]), torch.ones(2), 0.2).isnan().any())


@given(st.integers(0, 2**31 - 1), st.floats(1e-3, 10.0), st.floats(1e-3, 1e3))
@settings(max_examples=40)
def test_never_outside_and_twice_is_once(seed, limit, scale):
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(4, 5, generator=generator)
    weights = base + scale * torch.randn(4, 5, generator=generator)
    held = within(weights, base, limit)
    round_off = 1e-6 * float(base.norm() + weights.norm())  # of what was added up, however short the way is
    assert float(distance(held, base)) <= float(radius(base, limit)) + round_off
    torch.testing.assert_close(within(held, base, limit), held, rtol=1e-5, atol=1e-6)


def test_each_tensor_has_its_own_ball_and_is_counted_at_its_limit():
    far, near = Parameter(torch.tensor([3.0, 4.0])), Parameter(torch.tensor([30.0, 40.0]))
    held = UpdateLimit([far, near], 0.2)
    with torch.no_grad():
        far.add_(torch.tensor([0.0, 4.0]))
        near.add_(torch.tensor([0.0, 4.0]))
    held.hold()
    torch.testing.assert_close(far.data, torch.tensor([3.0, 5.0]))
    assert near.tolist() == [30.0, 44.0]
    assert held.note() == "1 of 2 trained tensors ended at the update limit of 0.2"


def test_no_tensor_leaves_its_ball_in_the_loop_and_some_would():
    free, _ = run()
    limited, summary = run(update_limit=LIMIT)
    assert max(relative_changes(free)) > 2 * LIMIT
    assert LIMIT * 0.99 < max(relative_changes(limited)) <= LIMIT * (1 + 1e-4)
    assert any("trained tensors ended at the update limit of 0.01" in one for one in summary.notes)


def test_going_back_to_a_good_step_keeps_the_ball_where_the_job_started():
    broken = []

    def once(llm, progress):
        if progress.step == 3 and not broken:
            broken.append(True)
            llm.model.norm.weight.fill_(math.nan)

    llm, summary = run(once, update_limit=LIMIT)
    assert summary.rollbacks == 1
    assert LIMIT * 0.99 < max(relative_changes(llm)) <= LIMIT * (1 + 1e-4)


def test_named_matrices_are_limited_alike():
    llm, summary = run(tuning="named", update_limit=LIMIT)
    moved = [change for change in relative_changes(llm) if change > 0]
    assert max(moved) <= LIMIT * (1 + 1e-4)
    assert f"{len(moved)} of {len(moved)} trained tensors" in summary.notes[-1]
