"""Policies by name: those that the operator wrote into a JSON file, and `default`.

    {"strict": {"extraction_strength": {"accept": 0.05, "reject": 0.1}}, "pilot": {"min_control_items": 5}}

Each is the built-in policy with what it says in the place of the built-in values. Here, and here only, a value may be
looser than the built-in one: whoever may write the file answers for the service. A model's defaults and a request name
one of them, and may only tighten it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from records.errors import Invalid, invalid_field
from records.policy import Policy, tightened

DEFAULT = "default"
VARIABLE = "LETHE_POLICIES_FILE"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Policies = Mapping[str, Policy]
Wish = Mapping[str, Any]
"""`name`, if another policy than the one in force is meant, and thresholds tighter than its own."""


@dataclass(frozen=True)
class NamedPolicy:
    """The thresholds in force, and the operator's policy that they were tightened from."""

    name: str
    policy: Policy


def read_policies(path: str) -> dict[str, Policy]:
    """The policies of a file, `default` among them; for an empty path `default` alone.

    Raises Invalid with one line that names the policy, the field and what is wrong with it.
    """
    if not path:
        return {DEFAULT: Policy()}
    return {DEFAULT: Policy(), **{name: _parsed(name, given) for name, given in _read(Path(path)).items()}}


def policy_of_model(policies: Policies, wished: Wish, pointer: str = "/defaults/policy") -> NamedPolicy:
    """What a model's defaults ask for: a policy of the operator's, tightened.

    Raises Invalid for a name that is not there, and as `tightened` does.
    """
    return _tightened(policies, NamedPolicy(DEFAULT, policies[DEFAULT]), wished, pointer)


def policy_of_request(policies: Policies, of_model: Wish, wished: Wish) -> NamedPolicy:
    """What a request runs under: the model's policy, or the one it names, tightened by what it wishes.

    Where the model's defaults ask for a policy, a request that names one must not end up looser in any field.
    Raises Invalid as `policy_of_model` does, and for defaults that the operator has come to forbid since.
    """
    floor = _floor(policies, of_model)
    found = _tightened(policies, floor, wished, "/policy")
    if of_model and "name" in wished:
        tightened(floor.policy, found.policy.model_dump(), "/policy")
    return found


def _floor(policies: Policies, of_model: Wish) -> NamedPolicy:
    try:
        return policy_of_model(policies, of_model)
    except (Invalid, ValidationError):
        detail = (
            "The policy in the model's defaults is no longer one that the operator allows. "
            "Set the model's defaults anew: PATCH /v1/models/{namespace}/{name}."
        )
        raise invalid_field("/model", detail) from None


def _tightened(policies: Policies, base: NamedPolicy, wished: Wish, pointer: str) -> NamedPolicy:
    thresholds = {field: value for field, value in wished.items() if field != "name"}
    if "name" in wished:
        name = wished["name"]
        if not isinstance(name, str) or name not in policies:
            known = ", ".join(sorted(policies))
            raise invalid_field(f"{pointer}/name", f"There is no policy of this name. Choose one of: {known}.")
        base = NamedPolicy(name, policies[name])
    return NamedPolicy(base.name, tightened(base.policy, thresholds, pointer))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"{VARIABLE}: {path} cannot be read ({error.strerror}). Mend the path, or unset it.") from None
    except ValueError:
        raise Invalid(f"{VARIABLE}: {path} is not JSON. Write one object: a name and its thresholds each.") from None
    if not isinstance(found, dict):
        raise Invalid(f"{VARIABLE}: {path} is not a JSON object. Write one object: a name and its thresholds each.")
    return found


def _parsed(name: str, given: object) -> Policy:
    if not _NAME.fullmatch(name):
        raise Invalid(f"{VARIABLE}: a policy's name is letters, digits, '.', '_' and '-', 64 at most; rename {name!r}.")
    try:
        return Policy.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = "/".join(map(str, first["loc"])) or "the whole"
        raise Invalid(f"{VARIABLE}: policy {name!r}, {field}: {first['msg']}.") from None
