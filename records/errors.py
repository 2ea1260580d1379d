"""Expected refusals: a code for programs, a status for HTTP, a sentence for the reader.

Every error crosses process borders (runner to supervisor), so all state sits in `args` and pickles. A detail never
holds personal data: ids, counts and field names only.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field: `pointer` is a JSON pointer (RFC 6901), `detail` names problem and remedy."""

    pointer: str
    detail: str


class LetheError(Exception):
    """Root of all expected refusals. Subclasses stand next to the rule that raises them."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail, errors)
        self.detail = detail
        self.errors = errors

    def __str__(self) -> str:
        return self.detail


class Invalid(LetheError):
    """The caller's values cannot be used; `errors` names the fields."""

    code = "invalid"
    status = 422


class NotFound(LetheError):
    """No such thing, or not this tenant's: the two look the same on purpose."""

    code = "not_found"
    status = 404


class Conflict(LetheError):
    """The thing exists but its state forbids the call."""

    code = "conflict"
    status = 409


class TooLarge(LetheError):
    """A body or an example is over a stated limit."""

    code = "too_large"
    status = 413


def invalid_field(pointer: str, detail: str) -> Invalid:
    """An `Invalid` about exactly one field."""
    return Invalid(detail, (FieldError(pointer, detail),))
