"""JSONL as it streams in: each line is checked as an example, nothing is kept, and the bytes go on as they came, but
for the mark that some editors put in front of the first.

A refusal names line numbers and rules. It never holds a word of a line.
"""

import hashlib
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from records.errors import FieldError, Invalid
from records.examples import ExampleRecord
from service import utf8

MOST_BAD_LINES = 20


class LinesInvalid(Invalid):
    """Some lines are no examples, or there is none."""

    code = "lines_invalid"


class LineCheck:
    """Passes pieces of a JSONL stream on while it checks and counts their lines.

    `rows`, and `digest` and `size_bytes` of the stream as it came, hold once the iteration has ended. Memory: one piece
    and one line.
    """

    def __init__(self, pieces: Iterable[bytes], max_line_bytes: int) -> None:
        self.rows = self.size_bytes = 0
        self._pieces = pieces
        self._max_line_bytes = max_line_bytes
        self._hash = hashlib.sha256()
        self._line_number = 0
        self._bad: list[FieldError] = []

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        """The pieces. Raises LinesInvalid at the end of the stream, or once 20 lines are bad."""
        rest = b""
        for piece in self._without_mark():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                self._check(line)
            if len(rest) > self._max_line_bytes:
                self._check(rest)
                self._refuse()
            if len(self._bad) >= MOST_BAD_LINES:
                self._refuse()
            yield piece
        self._check(rest)
        if self._bad or not self.rows:
            self._refuse()

    def _without_mark(self) -> Iterator[bytes]:
        start: bytes | None = b""  # of the stream, while it may yet become the mark
        for piece in self._pieces:
            self._hash.update(piece)
            self.size_bytes += len(piece)
            if start is None:
                yield piece
                continue
            start += piece
            if len(start) >= len(utf8.MARK):
                yield start.removeprefix(utf8.MARK)
                start = None
        if start:
            yield start

    def _check(self, line: bytes) -> None:
        self._line_number += 1
        if not line.strip():
            return
        problem = self._problem(line)
        if problem is None:
            self.rows += 1
        elif len(self._bad) < MOST_BAD_LINES:
            detail = f"Line {self._line_number}: {problem}"
            self._bad.append(FieldError(f"/lines/{self._line_number}", detail))

    def _problem(self, line: bytes) -> str | None:
        if len(line) > self._max_line_bytes:
            return f"longer than {self._max_line_bytes} bytes; split the text over several lines."
        if not utf8.is_utf8(line):
            return "not UTF-8; save the file as UTF-8, and send it again."
        try:
            ExampleRecord.model_validate_json(line)
        except ValidationError as error:
            return _rule(error)
        return None

    def _refuse(self) -> None:
        if not self._bad:
            raise LinesInvalid("The body has no examples. Send at least one line of JSON.")
        detail = f"{len(self._bad)} or more lines are no examples, the first of them line {_number(self._bad[0])}."
        raise LinesInvalid(detail, tuple(self._bad))


def _rule(error: ValidationError) -> str:
    """The first broken rule, without names or values from the line."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if found["type"] == "json_invalid":
        return "not JSON; write one whole object a line."
    if found["type"] == "extra_forbidden":
        return f"a field that examples do not have; they have {', '.join(ExampleRecord.model_fields)}."
    known = [str(part) for part in found["loc"] if isinstance(part, int) or part in ExampleRecord.model_fields]
    words = found["msg"].removeprefix("Value error, ")
    return f"{'/'.join(known)}: {words}." if known else f"{words}."


def _number(error: FieldError) -> str:
    return error.pointer.rsplit("/", 1)[-1]
