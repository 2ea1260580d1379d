"""How many tokens the rows of a job have, as far as memory is concerned."""

from collections.abc import Iterator

from workers.batches import Encoded
from workers.fit import RowTokens
from workers.lessons import Lessons


def row_tokens(lessons: Lessons, *, every: bool = False) -> RowTokens:
    """Of all that is read at once, the longest; kept are the labelled tokens of what is trained on, or `every` one."""
    windows = list(_trained(lessons))
    asked = (window for _, some in lessons.judged for window in some)
    longest = max((len(one.ids) for some in (windows, _others(lessons), asked) for one in some), default=0)
    return RowTokens(longest, sum(len(one.ids) if every else one.labelled_tokens for one in windows))


def _trained(lessons: Lessons) -> Iterator[Encoded]:
    yield from (row.encoded for rows in lessons.rows for row in rows)
    yield from (row.encoded for row in lessons.retain)


def _others(lessons: Lessons) -> Iterator[Encoded]:
    """Other answers to the same rows."""
    yield from (row.alternative for rows in lessons.rows for row in rows if row.alternative is not None)
