"""A method nobody has heard of, added in the places that CONTRIBUTING.md lists and no other, goes all the way.

It stands here whole: parameters, card and attempts; equation, then class. The fixture is its lines in the dictionaries.
"""

from dataclasses import replace
from enum import StrEnum

import pytest
import torch
from pydantic import Field

from records import params
from records.params.entry import MethodCard, MethodEntry, Passes
from records.params.retain import RetainKind, RetainWeight, gentler, stronger
from records.params.training import TrainingParameters
from tests.benchmarks import test_cost
from tests.make_people import TRAINED, both_phrasings, memorised, people
from tests.service.conftest import client, model, problem, submit  # noqa: F401 - fixtures are found by name
from tests.workers import test_methods_in_the_loop as loop
from tests.workers.methods import test_every_method as matrix
from workers import methods
from workers.evaluation.scoring import score
from workers.examples import encode
from workers.loop import UnlearnWork, unlearn
from workers.methods.answers import answers, weighted_mean
from workers.methods.retain_term import RetainTerm
from workers.methods.two_terms import TwoTerms

torch.set_num_threads(1)

NAME = "bounded_surprise"
MATRIX = [each for each in dir(matrix) if each.startswith("test_")]


class BoundedSurpriseParameters(TrainingParameters):
    """Raise each label's surprise, up to a bound."""

    bound: float = Field(default=20.0, gt=0.0, le=50.0, description="In nats.")
    retain_kind: RetainKind = "nll"
    retain_weight: RetainWeight = 1.0


CARD = MethodCard(
    name=NAME,
    title="Bounded surprise",
    paper="none",
    equation="L = mean_n max(0, bound + log p(label_n)) + λ·L_retain",
    needs=("forget set",),
    cost="6 forward units per pair of batches",
    passes=Passes(retain=1),
)
ENTRY = MethodEntry(BoundedSurpriseParameters, CARD, stronger, gentler)


def shortfall(nll, bound):
    """max(0, bound - NLL) of each label."""
    return (bound - nll).clamp(min=0.0)


class BoundedSurprise:
    def __init__(self, bound):
        self._bound = bound

    def prepare(self, teacher, batches, level):
        """Nothing is kept of the teacher."""

    def loss(self, student, batch):
        found = answers(student, batch)
        return weighted_mean(shortfall(found.nll_N, self._bound), found.weights_N)

    def weight(self, batch):
        return batch.token_weight


def make_bounded_surprise(*, bound=20.0, retain_kind="nll", retain_weight=1.0):
    return TwoTerms(BoundedSurprise(bound), RetainTerm(retain_kind, retain_weight))


@pytest.fixture(autouse=True)
def added(monkeypatch):
    names = {one.name: one.value for one in params.MethodName} | {NAME.upper(): NAME}
    monkeypatch.setattr(matrix, "MethodName", StrEnum("MethodName", names))
    monkeypatch.setitem(params.ENTRIES, NAME, ENTRY)
    monkeypatch.setitem(params.PARAMETERS, NAME, ENTRY.parameters)  # these two are made from ENTRIES
    monkeypatch.setitem(params.METHOD_CARDS, NAME, ENTRY.card)
    monkeypatch.setitem(methods.METHODS, NAME, make_bounded_surprise)


@pytest.mark.parametrize("test", MATRIX)
def test_it_passes_the_matrix_of_all_methods(test):
    getattr(matrix, test)(NAME, matrix.LLMS["llama tied"])


def test_a_wrong_weight_does_not_pass_the_matrix(monkeypatch):
    monkeypatch.setattr(BoundedSurprise, "weight", lambda _, batch: batch.row_weight)
    with pytest.raises(AssertionError):
        matrix.test_micro_batches_add_up_by_the_weight_of_each(NAME, matrix.LLMS["llama tied"])


def test_a_card_that_is_silent_about_its_teacher_does_not_pass_the_matrix(monkeypatch):
    silent = replace(CARD, passes=Passes(retain=1, teacher_heads_forget=1))
    monkeypatch.setitem(params.METHOD_CARDS, NAME, silent)
    with pytest.raises(AssertionError):
        matrix.test_the_card_says_whether_a_teacher_is_kept(NAME, matrix.LLMS["llama tied"])


@pytest.mark.parametrize("test", ["test_forgets_and_stays_an_llm", "test_micro_batches_change_nothing_but_round_off"])
def test_it_passes_the_loop_of_all_methods(test):
    getattr(loop, test)(NAME)


def test_its_operations_are_counted():
    test_cost.test_a_counted_step_is_within_five_percent_of_the_formula(NAME)


def test_it_forgets_in_the_loop():
    llm, tokenizer = memorised()
    fast = {"learning_rate": 5e-4, "epochs": 40}
    forget, retain = people(TRAINED[:1]), both_phrasings(people(TRAINED[1:]))
    work = UnlearnWork(forget=forget, retain=retain, method=NAME, parameters=fast)
    assert unlearn(llm, tokenizer, work, lambda _: None).known_items == 0
    after = [score(llm, [encode(one, tokenizer, 64) for one in rows], 0) for rows in (forget, retain)]
    assert not any(one.exact for one in after[0])
    assert sum(one.exact for one in after[1]) >= 0.9 * len(after[1])


def test_it_is_served_with_its_schema(client, ours):  # noqa: F811 - the fixture
    served = client.get("/v1/methods", headers=ours.headers).json()["data"]
    (card,) = (one for one in served if one["name"] == NAME)
    assert (card["equation"], card["cost"]) == (CARD.equation, CARD.cost)
    assert card["parameters"]["properties"]["bound"]["maximum"] == 50.0


def test_a_request_may_ask_for_it_and_its_parameters_are_checked(client, ours, model):  # noqa: F811 - the fixtures
    answer = submit(client, ours, model, method=NAME, parameters={"bound": 12.5})
    assert answer.status_code == 202
    body = answer.json()
    assert (body["method"], body["parameters"]["bound"], body["parameters"]["retain_kind"]) == (NAME, 12.5, "nll")
    problem(submit(client, ours, model, method=NAME, parameters={"bound": 0}), 422, "/parameters/bound")


def test_its_attempts_grow_stronger():
    first = params.parse_parameters(NAME, {})
    assert params.escalate(first, 2).parameters.learning_rate == 2 * first.learning_rate
