"""The terms a request runs under: method, parameters, policy. Checked when a model names its defaults, and again when a
request names its own; what comes out is complete and frozen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from records.errors import Invalid, invalid_field
from records.params import METHOD_CARDS, MethodName, TrainingParameters, parse_parameters
from records.params.auto import FITTED, ChoiceRecord, choose
from records.params.facts import Facts
from records.policies import NamedPolicy, Policies, Wish, policy_of_model, policy_of_request
from service.problems import DOCUMENT, field_errors

AUTO = "auto"
METHODS = "GET /v1/methods"
AUTO_METHOD = str(MethodName.UNDIAL)
"""What a model's default parameters are checked against while nothing is known of any request."""

FactsOf = Callable[[frozenset[str], frozenset[str]], Facts]
"""The facts, given the parameters that are set already and the methods that accept them."""


@dataclass(frozen=True)
class Terms:
    """The method of one request, all its parameters, and who chose so."""

    method: str
    parameters: TrainingParameters
    choice: ChoiceRecord


def named_terms(wished: str, given: dict[str, Any], defaults: dict[str, Any]) -> Terms | None:
    """What the request wishes, else what the model's defaults name; None if `auto` is to choose.

    Raises Invalid as `method_of` and `parameters_of` do, also for parameters that no method accepts, so that a request
    can be refused before a training dataset is read for its facts.
    """
    by_default, of_default = defaults.get("method") or AUTO, defaults.get("parameters", {})
    if wished == by_default == AUTO:
        if not any(_accepts(name, of_default | given) for name in METHOD_CARDS):
            parameters_of(AUTO_METHOD, of_default, given)
        return None
    method = method_of(wished, by_default)
    parameters = parameters_of(method, of_default if method == method_of(by_default) else {}, given)
    if wished == AUTO:
        return Terms(method, parameters, ChoiceRecord(by="model", reasons=(f"the model's defaults name {method}",)))
    return Terms(method, parameters, ChoiceRecord(by="request"))


def automatic_terms(given: dict[str, Any], defaults: dict[str, Any], facts_of: FactsOf) -> Terms:
    """What `auto` makes of the facts. Raises Invalid as `parameters_of` does."""
    given = defaults.get("parameters", {}) | given
    accepting = frozenset(name for name in METHOD_CARDS if _accepts(name, given))
    choice = choose(facts_of(frozenset(given), accepting))
    untouched = tuple(name for name in FITTED if name not in given)
    record = ChoiceRecord(by="auto", reasons=choice.reasons, open=untouched)
    return Terms(choice.method, parameters_of(choice.method, dict(choice.parameters), given), record)


def _accepts(method: str, given: dict[str, Any]) -> bool:
    try:
        parse_parameters(method, given)
    except ValidationError:
        return False
    return True


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
        detail = f"Parameters of {method} cannot be used; {METHODS} has their schema."
        raise _invalid(error, pointer, detail, METHODS) from None


def model_policy(policies: Policies, wished: Wish) -> NamedPolicy:
    """The policy that a model's defaults ask for. Raises Invalid with pointers below /defaults/policy."""
    with _pointing("/defaults/policy"):
        return policy_of_model(policies, wished)


def request_policy(policies: Policies, of_model: Wish, wished: Wish) -> NamedPolicy:
    """The policy that a request runs under. Raises Invalid with pointers below /policy."""
    with _pointing("/policy"):
        return policy_of_request(policies, of_model, wished)


@contextmanager
def _pointing(pointer: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        detail = f"The policy cannot be used; {DOCUMENT} has its schema."
        raise _invalid(error, pointer, detail, DOCUMENT) from None


def _invalid(error: ValidationError, pointer: str, detail: str, listed_in: str) -> Invalid:
    # Deeper parts of a location name pydantic's union branches, not fields.
    return Invalid(detail, field_errors(error, pointer, depth=1, listed_in=listed_in))
