"""What a check says, here or over HTTP: it stands alone, so that who verifies needs none of the server's packages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was written: `where` names it by id, `what` is a sentence."""

    where: str
    what: str


@dataclass
class Counts:
    """What was looked at."""

    entries: int = 0
    blobs: int = 0
    versions: int = 0


def differences(where: str, whose: str, present: Mapping[str, Any], logged: Mapping[str, Any]) -> Iterator[Finding]:
    """What is not as the log took it down; what entries of earlier releases do not say is not asked."""
    for name, value in present.items():
        if name in logged and logged[name] != value:
            yield Finding(where, f"{whose} {name} is not the one in the audit log.")
