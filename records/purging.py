"""The end of a version's weights: the row stays and says so, its files belong to nobody and are collected.

Manifest and statements stay: they tell what there was, and later versions name it as their parent.
"""

from sqlalchemy.orm import Session

from records.errors import Conflict
from records.moves import move
from records.rows import VersionRow
from records.states import VersionState


def purge(session: Session, version: VersionRow, actor: str) -> None:
    """Give up the weights of a version that is not head. Raises Conflict for a head, or one on legal hold."""
    if version.state in (VersionState.PUBLISHED, VersionState.CANDIDATE, VersionState.LEGAL_HOLD):
        raise Conflict(f"Version {version.number} is {version.state} and cannot be purged.")
    if version.state == VersionState.SUPERSEDED:
        move(session, version, VersionState.QUARANTINED, actor)
    if version.state != VersionState.PURGED:
        move(session, version, VersionState.PURGED, actor)
