"""RMU's and FALCON's parameters: what cannot go together, and attempts that stay within bounds."""

import pytest
from pydantic import ValidationError

from records.params import escalate, parse_parameters


def test_a_given_layer_needs_the_fixed_choice():
    with pytest.raises(ValidationError, match="layer_choice"):
        parse_parameters("falcon", {"layer_choice": "separability", "layer": 3})
    with pytest.raises(ValidationError, match="layer_choice"):
        parse_parameters("falcon", {"layer_choice": "mutual_information", "trained_layers": [1]})
    assert parse_parameters("falcon", {"layer_choice": "fixed", "layer": 3}).layer == 3


@pytest.mark.parametrize("method", ["rmu", "falcon"])
@pytest.mark.parametrize(
    "given",
    [{"tuning": "lora"}, {"layer": -1}, {"trained_modules": []}, {"trained_layers": [-1]}, {"retain_weight": -1}],
)
def test_out_of_bounds_is_refused(method, given):
    with pytest.raises(ValidationError):
        parse_parameters(method, given)


@pytest.mark.parametrize("method", ["rmu", "falcon"])
@pytest.mark.parametrize("failure", ["forgetting", "utility"])
def test_attempts_turn_the_right_way_within_bounds(method, failure):
    first = parse_parameters(method, {})
    second, third = (escalate(first, attempt, failure).parameters for attempt in (2, 3))
    way = 1 if failure == "utility" else -1
    assert way * third.retain_weight > way * second.retain_weight > way * first.retain_weight
    assert way * third.learning_rate < way * second.learning_rate < way * first.learning_rate
    for extreme in ({"retain_weight": 1e6, "learning_rate": 1e-2}, {"retain_weight": 0.0, "learning_rate": 1e-8}):
        for attempt in range(1, 9):
            escalate(parse_parameters(method, extreme), attempt, failure)
