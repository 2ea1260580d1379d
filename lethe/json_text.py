"""JSON as people write it and as Lethe is sent it: one rule for what is an object, and what cannot be sent at all.

A line ends with LF alone, as in the service: U+2028 and U+0085 are letters of a text, and the CR of CRLF is white
space. Texts may be personal data: a refusal tells the rule, never a word. Needs nothing but Python.
"""

import codecs
import json
from collections.abc import Iterator
from typing import Any

COMPACT = (",", ":")
NOT_UTF8 = "is not UTF-8"
NO_OBJECT = "is not a JSON object"
TOO_DEEP = "is nested too deeply to be read"
NO_NUMBER = "has a number that JSON cannot hold: NaN, Infinity or one too large"
NO_CHARACTER = "has half a surrogate pair, or a byte that is not UTF-8: no character that can be sent"


class NotJson(ValueError):
    """What is wrong with a value, to be said after its place: `is nested too deeply to be read`."""


class BadLine(Exception):
    """`problem` of a line, to be said after its `number`."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(number, problem)
        self.number, self.problem = number, problem


def rows(content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line but empty ones; a byte order mark is no part of the first. Raises BadLine."""
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = loaded(_decoded(line))
        except NotJson as problem:
            raise BadLine(number, str(problem)) from None
        yield number, row


def loaded(text: str) -> dict[str, Any]:
    """The object in a text, which can be sent again. Raises NotJson."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise NotJson(TOO_DEEP) from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NotJson(NO_OBJECT)
    dumped(value)
    return value


def dumped(value: Any, separators: tuple[str, str] = COMPACT) -> bytes:
    """The value as httpx would send it. Raises NotJson; TypeError for what is no JSON type is the caller's mistake."""
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, check_circular=False, separators=separators
        ).encode()
    except RecursionError:
        raise NotJson(TOO_DEEP) from None
    except UnicodeEncodeError:
        raise NotJson(NO_CHARACTER) from None
    except ValueError:
        raise NotJson(NO_NUMBER) from None


def _decoded(line: bytes) -> str:
    """UTF-16 without accents decodes too, into letters and NULs; no JSON has a NUL."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise NotJson(NOT_UTF8) from None
    if "\0" in text:
        raise NotJson(NOT_UTF8)
    return text
