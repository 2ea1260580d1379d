"""One number an item, as columns: of the forget set, and of the control that stands beside it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from records.report import Group, GroupName, ItemNumbers, ItemRow
from workers.evaluation.residual_ratio import Scored

Read = Callable[[ItemNumbers], float | None]
When = Literal["before", "after"]
Groups = Mapping[GroupName, Group]

CONTROL_OF = {
    GroupName.FORGET: GroupName.CONTROL,
    GroupName.FORGET_PARAPHRASES: GroupName.CONTROL_PARAPHRASES,
}


def column(rows: Iterable[ItemRow], when: When | Literal["reference"], read: Read) -> list[float] | None:
    """None where an item lacks the number."""
    found = []
    for row in rows:
        numbers = getattr(row, when)
        value = None if numbers is None else read(numbers)
        if value is None:
            return None
        found.append(float(value))
    return found


def rows_in(groups: Groups, name: GroupName) -> list[ItemRow]:
    """All of a group; of the forget set's paraphrases only the sealed ones, which no tuning has seen."""
    group = groups.get(name)
    if group is None:
        return []
    return [row for row in group.items if name is not GroupName.FORGET_PARAPHRASES or row.split == "sealed"]


def control_rows(groups: Groups, name: GroupName) -> list[ItemRow]:
    """The control in the same kind of wording, if it has it."""
    return rows_in(groups, CONTROL_OF[name]) or rows_in(groups, GroupName.CONTROL)


def scored(groups: Groups, name: GroupName, read: Read) -> tuple[Scored, Scored] | None:
    """(forget, control) of one number an item; None where either side has none, or the control is about one subject."""
    sides = [_scored(rows, read) for rows in (rows_in(groups, name), control_rows(groups, name))]
    if sides[0] is None or sides[1] is None or sides[1].units < 2:
        return None
    if sides[0].base is None or sides[1].base is None:
        return replace(sides[0], base=None), replace(sides[1], base=None)
    return sides[0], sides[1]


def _scored(rows: Sequence[ItemRow], read: Read) -> Scored | None:
    """Of the rows that have the number both before and after."""
    having = [row for row in rows if read(row.before) is not None and read(row.after) is not None]
    before, after, base = (column(having, when, read) for when in ("before", "after", "reference"))
    if not having or before is None or after is None:
        return None
    return Scored(
        before=np.asarray(before),
        after=np.asarray(after),
        base=None if base is None else np.asarray(base),
        subjects=[row.subject for row in having],
    )
