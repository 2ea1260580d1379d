"""Cursor pages: newest first, keyed by id, so that a page stays right while rows are added."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

Item = TypeVar("Item")
MAX_LIMIT = 200


@dataclass(frozen=True)
class Page(Generic[Item]):
    """One page and the cursor of the next (None at the end)."""

    data: list[Item]
    next_cursor: str | None


def page(session: Session, query: sa.Select[tuple[Item]], row: Any, after: str | None, limit: int) -> Page[Item]:
    """Rows of `query` older than the id `after`, newest first, at most `limit`."""
    if after is not None:
        query = query.where(row.id < after)
    found: list[Item] = list(session.scalars(query.order_by(row.id.desc()).limit(limit + 1)))
    return Page(found[:limit], getattr(found[limit - 1], "id", None) if len(found) > limit else None)
