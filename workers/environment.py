"""A process's settings as environment variables, so that a child process reads the same ones."""

import json
from dataclasses import fields
from typing import Any

from pydantic import SecretStr

from records.parts import Settings


def environment_of(settings: Settings) -> dict[str, str]:
    """LETHE_* variables from which `Settings()` in a child process makes equal settings."""
    variables: dict[str, str] = {}
    for concern in fields(settings):
        section = getattr(settings, concern.name)
        for name in type(section).model_fields:
            variables[f"LETHE_{name.upper()}"] = _text(getattr(section, name))
    return variables


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple | list):
        return json.dumps([str(item) for item in value])
    return str(value)
