"""Gradients that conflict, in the loop: whichever method has a retain term, and however its batch is cut."""

from contextlib import nullcontext

import pytest
import torch

from records.params import parse_parameters
from tests.make_people import TRAINED, both_phrasings, memorised, people
from workers.batch_gradients import take_gradient
from workers.lessons import plan_lessons
from workers.loop import UnlearnWork, make_method, unlearn
from workers.methods.interface import Losses
from workers.stopping import stop_rule
from workers.training_run import TrainingRun

torch.set_num_threads(1)

FORGET, OTHERS = people(TRAINED[:1]), people(TRAINED[1:])
ONE_STEP = {"learning_rate": 1e-3, "max_steps": 1, "stop_ratio": 0.1}
STEERING = {"layer": 1, "retain_weight": 1.0}
METHODS = {
    "undial": {"retain_kind": "nll", "repair_steps": 0},
    "ascent_descent": {},
    "npo": {"beta": 0.02},
    "idk_dpo": {},
    "wga": {"retain_kind": "nll"},
}


class TwoSlopes:
    """Two tensors of the LLM with given gradients: u = (3, 4), r = (-1, 4). They conflict in the first alone; as one
    vector ⟨u, r⟩ = 13 and they agree."""

    wants_retain = True

    def prepare(self, teacher, batches, level):
        """Nothing is kept of the teacher."""

    def losses(self, student, forget, retain):
        one, two = (student.model.layers[at].mlp.down_proj.weight for at in (0, 1))
        return Losses(
            None if forget is None else 3.0 * one.sum() + 4.0 * two.sum(),
            None if retain is None else -1.0 * one.sum() + 4.0 * two.sum(),
        )

    def backward(self, losses, parameters):
        for one in (losses.forget, losses.retain):
            if one is not None:
                one.backward(inputs=list(parameters))


def signs(scope, method=None, **parameters):
    """Which way the two tensors go. AdamW's first step is the gradient's sign, so that the first one alone tells."""
    llm, tokenizer = memorised()
    untouched, _ = memorised()
    settings = parse_parameters("undial", ONE_STEP | {"conflict_scope": scope, "tuning": "named"} | parameters)
    lessons = plan_lessons(UnlearnWork(forget=FORGET, retain=both_phrasings(OTHERS)), tokenizer, 64, 40, 0)
    run = TrainingRun(llm, method or TwoSlopes(), settings, lessons, stop_rule(None, 0.1), 0)
    run.train(lambda _: None, nullcontext)
    after, before = ([one.model.layers[at].mlp.down_proj.weight.detach() for at in (0, 1)] for one in (llm, untouched))
    return [float((now - then).sign().mean()) for now, then in zip(after, before, strict=True)]


@pytest.mark.parametrize("micro_batch_size", [None, 1])
@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("off", [-1.0, -1.0]),  # g = u + r = (2, 8)
        ("global", [-1.0, -1.0]),  # nothing conflicts as one vector: the same
        ("tensor", [1.0, -1.0]),  # u⊥ = 0 in the first: g = (-1, 8), and the step goes against g
    ],
)
def test_the_step_by_hand(scope, expected, micro_batch_size):
    assert signs(scope, micro_batch_size=micro_batch_size) == expected


def test_a_method_without_a_retain_term_is_left_alone():
    class Alone(TwoSlopes):
        wants_retain = False

    assert signs("tensor", Alone()) == [-1.0, -1.0]


def test_repair_steps_follow_the_retain_gradient_alone():
    llm, tokenizer = memorised()
    settings = parse_parameters("undial", ONE_STEP | {"conflict_scope": "tensor"})
    work = UnlearnWork(forget=FORGET, retain=both_phrasings(OTHERS))
    run = TrainingRun(llm, TwoSlopes(), settings, plan_lessons(work, tokenizer, 64, 40, 0), stop_rule(None, 10.0), 0)
    run._backward([], list(llm.parameters()))
    down = [llm.model.layers[at].mlp.down_proj.weight.grad for at in (0, 1)]
    assert [float(one.mean()) for one in down] == pytest.approx([-1.0, 4.0])


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("method", [*METHODS, "rmu"])
def test_micro_batches_change_nothing_but_round_off(method, scope):
    # The sum of what is resolved for each part is another gradient than what is resolved of the sums.
    whole, parts = (one_step(method, conflict_scope=scope, micro_batch_size=size) for size in (None, 1))
    untouched, _ = memorised()
    moved = total = 0.0
    for one, two, start in zip(whole.parameters(), parts.parameters(), untouched.parameters(), strict=True):
        moved += (one - two).detach().pow(2).sum().item()
        total += (one - start).detach().pow(2).sum().item()
    assert total > 0.0
    assert moved < 1e-4 * total


@pytest.mark.parametrize("method", METHODS)
def test_the_step_is_another_where_gradients_conflict(method):
    plain, projected = (one_step(method, conflict_scope=scope) for scope in ("off", "tensor"))
    assert any(not torch.equal(a, b) for a, b in zip(plain.parameters(), projected.parameters(), strict=True))


def one_step(method, **parameters):
    """Two steps: where the retain loss is a distance from the LLM as it was, the first has no retain gradient."""
    llm, tokenizer = memorised()
    given = ONE_STEP | {"max_steps": 2} | (STEERING if method == "rmu" else METHODS[method])
    retain = both_phrasings(OTHERS)[:6]
    work = UnlearnWork(forget=FORGET, retain=retain, method=method, parameters=given | parameters)
    assert unlearn(llm, tokenizer, work, lambda _: None).steps == 2
    return llm


def test_a_method_that_settles_conflicts_itself_is_not_projected_again():
    llm, tokenizer = memorised()
    work = UnlearnWork(forget=FORGET, retain=both_phrasings(OTHERS))
    scopes = []
    for name in ("falcon", "rmu"):
        settings = parse_parameters(name, {"conflict_scope": "tensor"})
        lessons = plan_lessons(work, tokenizer, 64, 8, 0)
        run = TrainingRun(llm, make_method(name, settings), settings, lessons, stop_rule(None, 1.0), 0)
        scopes.append(run.gradients.rule.scope)
    assert scopes == ["off", "tensor"]


def test_a_gradient_is_taken_whole_and_nothing_is_left_behind():
    one, two = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    one.grad = torch.tensor([1.0, 2.0])
    assert [gradient.tolist() for gradient in take_gradient([one, two])] == [[1.0, 2.0], [0.0, 0.0]]
    assert (one.grad, two.grad) == (None, None)
