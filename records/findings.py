"""What a check says, here or over HTTP: it stands alone, so that who verifies needs none of the server's packages."""

from dataclasses import dataclass


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
