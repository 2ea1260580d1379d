"""One number an item, as columns: of the forget set, and of the control that stands beside it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from records.policy import Policy
from records.report import Group, GroupName, ItemNumbers, ItemRow
from workers.evaluation.residual_ratio import Scored

Read = Callable[[ItemNumbers], float | None]
When = Literal["before", "after"]
Groups = Mapping[GroupName, Group]

CONTROL_OF = {
    GroupName.FORGET: GroupName.CONTROL,
    GroupName.FORGET_PARAPHRASES: GroupName.CONTROL_PARAPHRASES,
}


@dataclass(frozen=True, slots=True)
class Least:
    """Fewer rows than this, or about fewer subjects, cannot say how never-trained answers vary."""

    items: int = Policy.model_fields["min_control_items"].default
    subjects: int = Policy.model_fields["min_control_subjects"].default

    def met_by(self, rows: Sequence[ItemRow]) -> bool:
        return len(rows) >= self.items and len({row.subject for row in rows}) >= self.subjects


ENOUGH = Least()


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


def by_item(rows: Sequence[ItemRow], of: Callable[[ItemRow], float]) -> list[float]:
    """The mean of each item's rows, in order of appearance."""
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(row.item, []).append(of(row))
    return [sum(some) / len(some) for some in found.values()]


def rows_in(groups: Groups, name: GroupName) -> list[ItemRow]:
    """All of a group; of the forget set's paraphrases only the sealed ones, which no tuning has seen."""
    group = groups.get(name)
    if group is None:
        return []
    return [row for row in group.items if name is not GroupName.FORGET_PARAPHRASES or row.split == "sealed"]


def control_rows(groups: Groups, name: GroupName, least: Least = ENOUGH) -> list[ItemRow]:
    """The control in the same kind of wording, if enough of it has it: one row in other words is no control."""
    alike = rows_in(groups, CONTROL_OF[name])
    return alike if least.met_by(alike) else rows_in(groups, GroupName.CONTROL)


def calibrating(rows: Sequence[ItemRow], least: Least = ENOUGH) -> Sequence[ItemRow]:
    """Of control rows those that the reference could read, where they are enough: one that it could not is no reason
    to do without it."""
    known = [row for row in rows if row.reference is not None]
    return known if least.met_by(known) else rows


def scored(groups: Groups, name: GroupName, read: Read, least: Least = ENOUGH) -> tuple[Scored, Scored] | None:
    """(forget, control) of one number an item; None where either side has none, or the control is about one subject."""
    forget, control = _scored(rows_in(groups, name), read), control_rows(groups, name, least)
    if forget is None:
        return None
    other = _scored(control if forget.base is None else calibrating(control, least), read)
    if other is None or other.units < 2:
        return None
    if forget.base is None or other.base is None:
        return replace(forget, base=None), replace(other, base=None)
    return forget, other


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
