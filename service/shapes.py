"""Texts that must have a shape: a pattern for programs, as /openapi.json shows it, and words for people."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class Shape:
    """`Annotated[str, Shape(pattern, words)]`. `words` say how to write the text, with an example; they are what a text
    is refused with that does not match the pattern whole.
    """

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}

    def _checked(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise ValueError(self.words)
        return text


_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_OF_NAMES = "letters, digits, '.', '_' and '-', the first a letter or a digit"

NamePart = Annotated[str, Shape(rf"^{_PART}$", f"write {_OF_NAMES}, 96 at most, such as support-7b")]
Name = Annotated[
    str,
    Shape(
        rf"^{_PART}/{_PART}$",
        f"write namespace/name, such as acme/support-7b: both have {_OF_NAMES}, 96 at most",
    ),
]
Id = Annotated[str, Shape(r"^[A-Za-z0-9_]{1,64}$", "write an id as an answer gave it: letters, digits and '_'")]
