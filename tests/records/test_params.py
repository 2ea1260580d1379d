import json

import pytest
from pydantic import ValidationError

from records.params import FAILURES, METHOD_CARDS, PARAMETERS, UndialParameters, escalate, parse_parameters


def test_every_field_has_a_description_and_every_number_bounds():
    for parameters in PARAMETERS.values():
        properties = parameters.model_json_schema()["properties"]
        for name, one in properties.items():
            assert one.get("description"), name
            numbers = [part for part in one.get("anyOf", [one]) if part.get("type") in {"number", "integer"}]
            for part in numbers:
                assert {"minimum", "exclusiveMinimum"} & part.keys(), name
                assert {"maximum", "exclusiveMaximum"} & part.keys(), name


@pytest.mark.parametrize(
    "given",
    [
        {"learning_rate": 1.0},
        {"strength": -1},
        {"epochs": 0},
        {"update_limit": 0.0},
        {"conflict_scope": "always"},
        {"batch_size": 1.5},
        {"target": "other"},
        {"unknown": 1},
        {"floor": float("nan")},
        {"epochs": True},
        {"epochs": "30"},
        {"learning_rate": "0.001"},
        {"learning_rate": True},
        {"gradient_checkpointing": 1},
        {"gradient_checkpointing": "true"},
        {"trained_layers": [True]},
        {"trained_layers": "1"},
        {"lora_targets": [1]},
    ],
)
def test_out_of_bounds_is_refused(given):
    with pytest.raises(ValidationError):
        parse_parameters("undial", given)


def test_a_number_may_be_written_as_any_json_number_that_is_it():
    given = {"epochs": 30.0, "weight_decay": 1, "update_limit": 5, "trained_layers": [0, 7], "lora_targets": ["q_proj"]}
    found = parse_parameters("undial", given).model_dump()
    assert {name: found[name] for name in given} == given | {"trained_layers": (0, 7), "lora_targets": ("q_proj",)}
    assert (type(found["epochs"]), type(found["weight_decay"])) == (int, float)
    assert parse_parameters("falcon", {"conflicting_shares": [1, 0.5]}).model_dump()["conflicting_shares"] == (1.0, 0.5)


@pytest.mark.parametrize("method", PARAMETERS)
def test_what_was_stored_of_a_request_is_read_again(method):
    complete = parse_parameters(method, {"trained_layers": [1], "trained_modules": ["mlp-output", "self_attn.o_proj"]})
    stored = json.loads(json.dumps(complete.model_dump(mode="json")))
    assert parse_parameters(method, stored) == complete
    assert parse_parameters(method, complete.model_dump()) == complete


def test_each_method_has_a_class_of_parameters_of_its_own():
    classes = list(PARAMETERS.values())
    shared = [name for name, parameters in PARAMETERS.items() if classes.count(parameters) > 1]
    assert not shared, "derive a class for each: a second attempt finds its method by the class of its parameters"


def test_unknown_method_is_a_key_error():
    with pytest.raises(KeyError):
        parse_parameters("magic", {})


def test_cards_name_paper_and_equation():
    assert all(card.paper and card.equation and card.needs and card.cost for card in METHOD_CARDS.values())


def test_first_attempt_is_as_given():
    given = UndialParameters(strength=7.0)
    assert escalate(given, 1).parameters == given


def test_attempts_after_too_little_forgetting_grow_stronger():
    given = UndialParameters()
    second, third = escalate(given, 2), escalate(given, 3)
    ratios = [one.parameters.model_dump()["stop_ratio"] for one in (second, third)]
    assert ratios == [1.05, 1.05]
    assert escalate(UndialParameters(stop_ratio=8.0), 3).parameters.model_dump()["stop_ratio"] == 2.0
    assert (second.parameters.target, second.parameters.floor) == ("floor", given.floor)
    assert second.parameters.learning_rate == 2 * given.learning_rate
    assert third.parameters.learning_rate == 4 * given.learning_rate
    assert third.parameters.floor == second.parameters.floor / 2
    assert "too little" in second.why


def test_an_update_limit_widens_with_the_steps_that_it_would_stop():
    limited = UndialParameters(update_limit=0.03)
    assert [escalate(limited, attempt).parameters.update_limit for attempt in (1, 2, 3)] == [0.03, 0.06, 0.12]
    assert escalate(limited, 2, "utility").parameters.update_limit == 0.03
    assert escalate(UndialParameters(), 3).parameters.update_limit is None


def test_an_update_limit_is_refused_for_adapters():
    with pytest.raises(ValidationError, match="adapters start at 0: set tuning to full or named"):
        UndialParameters(update_limit=0.1, tuning="lora")


def test_attempts_after_damage_grow_gentler():
    given = UndialParameters(retain_kind="none")
    second, third = escalate(given, 2, "utility"), escalate(given, 3, "utility")
    assert second.parameters.retain_kind == "distill"
    assert third.parameters.learning_rate < second.parameters.learning_rate < given.learning_rate
    assert third.parameters.retain_weight > second.parameters.retain_weight > given.retain_weight


@pytest.mark.parametrize("failure", ["forgetting", "utility"])
def test_escalation_stays_within_bounds(failure):
    extreme = UndialParameters(learning_rate=1e-2, epochs=500, floor=1e-9, retain_weight=1000.0)
    for attempt in range(1, 12):
        escalate(extreme, attempt, failure)
        escalate(UndialParameters(learning_rate=1e-8), attempt, failure)


def test_attempts_start_at_one():
    with pytest.raises(ValueError, match="attempt"):
        escalate(UndialParameters(), 0)


SMALLEST = {"learning_rate": 1e-8, "epochs": 500, "retain_weight": 1000.0, "beta": 1e-3, "ceiling": 1.0}
LARGEST = {"learning_rate": 1e-2, "epochs": 500, "retain_weight": 1000.0, "beta": 100.0, "ceiling": 1000.0}


@pytest.mark.parametrize("method", list(PARAMETERS))
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("given", [{}, SMALLEST, LARGEST])
def test_every_method_escalates_within_its_bounds(method, failure, given):
    start = parse_parameters(
        method, {name: value for name, value in given.items() if name in PARAMETERS[method].model_fields}
    )
    for number in range(2, 12):
        attempt = escalate(start, number, failure)
        assert type(attempt.parameters) is PARAMETERS[method]
        assert attempt.why
        if failure in ("utility", "over_forgetting"):
            assert attempt.parameters.learning_rate <= start.learning_rate
        else:
            assert attempt.parameters.learning_rate >= start.learning_rate


def test_a_second_attempt_by_hand():
    npo = escalate(parse_parameters("npo", {"learning_rate": 1e-4, "beta": 0.2}), 2)
    assert (npo.parameters.learning_rate, npo.parameters.beta) == (2e-4, 0.1)
    climbed = escalate(parse_parameters("gradient_ascent", {}), 3)
    assert climbed.parameters.ceiling == 8.0
    assert "ceiling 8" in climbed.why
    free = escalate(parse_parameters("gradient_ascent", {"ceiling": None}), 3)
    assert free.parameters.ceiling is None
    held = escalate(parse_parameters("wga", {}), 2, "utility").parameters
    assert (held.retain_kind, held.retain_weight) == ("kl", 2.0)


def test_the_general_names_differ_in_their_rows_alone():
    for name in ("ascent_descent", "ascent_kl"):
        plain, general = parse_parameters(name, {}).model_dump(), parse_parameters(f"{name}_general", {}).model_dump()
        assert (plain.pop("retain_source"), general.pop("retain_source")) == ("retain", "utility")
        assert plain == general
