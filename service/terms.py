"""The terms a request runs under: method, parameters, policy. Checked when a model names its defaults, and again when a
request names its own; what comes out is complete and frozen.
"""

from typing import Any

from pydantic import ValidationError

from records.errors import Invalid, invalid_field
from records.params import METHOD_CARDS, MethodName, TrainingParameters, parse_parameters
from records.policy import Policy
from service.problems import field_errors

AUTO = "auto"
AUTO_METHOD = str(MethodName.UNDIAL)


def method_of(*wishes: str | None, pointer: str = "/method") -> str:
    """The first wish that names a method, else what `auto` stands for. Raises Invalid at `pointer`."""
    wished = next((wish for wish in wishes if wish not in (None, AUTO)), AUTO_METHOD)
    if wished not in METHOD_CARDS:
        raise invalid_field(pointer, f"There is no such method. Choose auto or one of: {', '.join(METHOD_CARDS)}.")
    return str(wished)


def parameters_of(method: str, *layers: dict[str, Any], pointer: str = "/parameters") -> TrainingParameters:
    """All parameters of `method`; later layers win. Raises Invalid with a pointer to each value that cannot be used."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    try:
        return parse_parameters(method, merged)
    except ValidationError as error:
        raise _invalid(
            error, pointer, f"Parameters of {method} cannot be used; GET /v1/methods has their schema."
        ) from None


def policy_of(*layers: dict[str, Any], pointer: str = "/policy") -> Policy:
    """The whole policy; later layers win, field by field. Raises Invalid as `parameters_of` does."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    try:
        return Policy.model_validate(merged)
    except ValidationError as error:
        raise _invalid(error, pointer, "The policy cannot be used; /openapi.json has its schema.") from None


def _invalid(error: ValidationError, pointer: str, detail: str) -> Invalid:
    # Deeper parts of a location name pydantic's union branches, not fields.
    return Invalid(detail, field_errors(error, pointer, depth=1))
