"""Every exception of a job in words: the one place where errors become a code and a sentence.

A sentence is shown to tenants and stored, so an unknown exception gives its class name only: its text may quote data.
"""

import errno
from dataclasses import dataclass

from records.database import DatabaseTrouble, is_away
from records.errors import LetheError
from workers import errors

UNEXPECTED = "unexpected"
NOT_THE_ATTEMPTS_FAULT = frozenset(
    {"stopped", "cancelled", "lease_lost", "head_moved", "database_away", "database_refused", "store_away"}
)


@dataclass(frozen=True)
class Failure:
    """`code` for programs, `sentence` for people, without personal data."""

    code: str
    sentence: str


_OUT_OF_MEMORY = Failure(
    "out_of_memory",
    "The worker ran out of memory. Ask for a smaller batch_size or micro_batch_size, or use a larger worker.",
)
_DISK_FULL = Failure("disk_full", "The worker's disk is full, so nothing was stored. Free some space and submit again.")
_DATABASE_AWAY = Failure("database_away", "The worker could not reach the database.")
_DATABASE_REFUSED = Failure("database_refused", "The database refused what the worker wrote; its log has the place.")
_UNREADABLE = Failure("version_unreadable", "The version's weight files cannot be read as safetensors.")

_CODES: dict[type[errors.UnlearningError], str] = {
    errors.Cancelled: "stopped",
    errors.Stopped: "stopped",
    errors.Diverged: "diverged",
    errors.TookTooLong: "took_too_long",
    errors.OutOfMemory: "out_of_memory",
    errors.ExampleTooLong: "example_too_long",
    errors.UnknownHead: "unsupported_llm",
    errors.Unsuitable: "unsupported_llm",
}


def explain(error: BaseException) -> Failure:
    """The failure behind any exception."""
    if isinstance(error, errors.UnlearningError):
        return Failure(_CODES.get(type(error), "unlearning_failed"), str(error))
    if isinstance(error, LetheError):
        return Failure(error.code, error.detail)
    if errors.is_out_of_memory(error):
        return _OUT_OF_MEMORY
    if _is_disk_full(error):
        return _DISK_FULL
    if isinstance(error, DatabaseTrouble):
        return _DATABASE_AWAY if is_away(error) else _DATABASE_REFUSED
    name = type(error).__name__
    if name == "SafetensorError":
        return _UNREADABLE
    return Failure(UNEXPECTED, f"The worker met an unexpected {name}; its log has the place.")


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    # safetensors wraps the system's error in a class of its own, with the number in the text
    return type(error).__name__ == "SafetensorError" and any(
        f"os error {number}" in str(error) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    )
