"""Which way the next attempt turns, by what the gate found wanting."""

import pytest

from records.params import FAILURES, UndialParameters, escalate, parse_parameters
from records.report import Check, Verdict, VerdictKind, failure_of


def check(side, outcome="reject"):
    return Check(name=side, outcome=outcome, side=side, words=side)


def test_paraphrases_are_trained_on_once_they_gave_the_answers_away():
    given = parse_parameters("npo", {})
    second = escalate(given, 2, "paraphrases").parameters
    assert (given.forget_paraphrases, second.forget_paraphrases) == (False, True)
    assert [escalate(given, number, "paraphrases").parameters.rewordings for number in (1, 2, 3)] == [0, 3, 6]
    assert second.learning_rate == 2 * given.learning_rate
    third = escalate(given, 3, "utility", ("paraphrases",)).parameters
    assert (third.forget_paraphrases, third.rewordings) == (True, 3)
    assert third.learning_rate == given.learning_rate / 4
    assert not escalate(given, 3, "utility", ("forgetting",)).parameters.forget_paraphrases
    assert escalate(UndialParameters(rewordings=29), 2, "paraphrases").parameters.rewordings == 30


def test_too_much_forgotten_ends_sooner_and_steps_smaller():
    given = parse_parameters("npo", {"stop_ratio": 3.0})
    second, third = (escalate(given, number, "over_forgetting").parameters for number in (2, 3))
    assert (second.stop_ratio, third.stop_ratio) == (6.0, 10.0)
    assert (second.learning_rate, third.learning_rate) == (given.learning_rate / 2, given.learning_rate / 4)


def test_undial_takes_others_answers_where_the_forgotten_can_be_told_apart():
    given = UndialParameters(focus="hard")
    second, third = (escalate(given, number, "over_forgetting").parameters for number in (2, 3))
    assert (second.target, second.focus, second.stop_ratio) == ("exchange", "none", 2.0)
    assert (second.learning_rate, third.learning_rate) == (given.learning_rate, given.learning_rate / 4)


def test_coarse_weights_want_larger_steps_on_fewer_matrices():
    given = UndialParameters()
    second = escalate(given, 2, "precision").parameters
    assert (second.tuning, second.learning_rate) == ("named", 2 * given.learning_rate)
    assert escalate(UndialParameters(tuning="lora"), 2, "precision").parameters.tuning == "lora"


def test_what_training_brings_back_is_repaired_longer():
    given = parse_parameters("npo", {"repair_steps": 0})
    assert [escalate(given, number, "relearning").parameters.repair_steps for number in (2, 3)] == [40, 80]
    assert escalate(UndialParameters(repair_steps=10_000), 2, "relearning").parameters.repair_steps == 10_000


def test_every_way_says_why():
    whys = [escalate(UndialParameters(), 2, failure).why for failure in FAILURES]
    assert len(set(whys)) == len(FAILURES)


@pytest.mark.parametrize(
    ("checks", "failure"),
    [
        ([check("utility"), check("forgetting")], "forgetting"),
        ([check("utility"), check("paraphrases", "review")], "utility"),
        ([check("relearning"), check("precision")], "precision"),
        ([check("over_forgetting", "review")], "over_forgetting"),
        ([check("power", "review"), check("utility", "pass")], "forgetting"),
    ],
)
def test_a_verdict_names_the_worst_side(checks, failure):
    assert failure_of(checks) == failure
    assert Verdict(kind=VerdictKind.REJECTED, reasons=(), checks=tuple(checks)).failure == failure
