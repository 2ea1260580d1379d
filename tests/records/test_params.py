import pytest
from pydantic import ValidationError

from records.params import METHOD_CARDS, PARAMETERS, UndialParameters, escalate, parse_parameters


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
        {"batch_size": 1.5},
        {"target": "other"},
        {"unknown": 1},
        {"floor": float("nan")},
    ],
)
def test_out_of_bounds_is_refused(given):
    with pytest.raises(ValidationError):
        parse_parameters("undial", given)


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
    assert (second.parameters.target, second.parameters.floor) == ("floor", given.floor)
    assert second.parameters.learning_rate == 2 * given.learning_rate
    assert third.parameters.learning_rate == 4 * given.learning_rate
    assert third.parameters.floor == second.parameters.floor / 2
    assert "too little" in second.why


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
