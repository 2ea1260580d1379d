"""Which of a job's attempts speaks for it: the one whose candidate was published or is for a person to judge."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from records.manifest import canonical_json, sha256_digest
from records.report import VerdictKind
from records.rows import AttemptRow


def for_review(attempts: Iterable[AttemptRow]) -> AttemptRow | None:
    """Of those that a person may judge, the one that fails the fewest criteria, the earliest of equals."""
    asked = [one for one in attempts if one.verdict == VerdictKind.NEEDS_REVIEW]
    return min(asked, key=lambda one: (_failing(one), one.number), default=None)


def decisive(attempts: Sequence[AttemptRow]) -> AttemptRow | None:
    """The accepted one, else the one for review, else the newest that was measured."""
    accepted = [one for one in attempts if one.verdict == VerdictKind.ACCEPTED]
    measured = [one for one in attempts if one.report]
    return next(iter(accepted), None) or for_review(measured) or next(reversed(measured), None)


def report_digest(attempt: AttemptRow) -> str | None:
    """As log and attestation hold it; None where nothing was measured."""
    return None if attempt.report is None else digest_of_report(attempt.report)


def digest_of_report(report: Mapping[str, Any]) -> str:
    """SHA-256 of the report's canonical JSON."""
    return sha256_digest(canonical_json(report))


def _failing(attempt: AttemptRow) -> int:
    checks = (attempt.report or {}).get("checks", ())
    return sum(check["outcome"] == "review" for check in checks)
