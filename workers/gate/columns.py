"""Reading a report: columns of one number an item, for the forget set and for the control that stands beside it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from records.policy import Policy
from records.report import Check, Group, GroupName, ItemNumbers, ItemRow, Report
from workers.evaluation.residual_ratio import Scored
from workers.gate.margins import Bounds, Outcome, judge

Read = Callable[[ItemNumbers], float | None]
When = Literal["before", "after"]

CONTROL_OF = {
    GroupName.FORGET: GroupName.CONTROL,
    GroupName.FORGET_PARAPHRASES: GroupName.CONTROL_PARAPHRASES,
}


@dataclass(frozen=True)
class Case:
    """What is judged, under which thresholds, at which level."""

    report: Report
    policy: Policy
    alpha: float

    @property
    def seed(self) -> int:
        return self.report.seeds.get("measure", 0)

    @property
    def groups(self) -> Mapping[GroupName, Group]:
        return self.report.groups

    def under(self, groups: Mapping[GroupName, Group]) -> "Case":
        """The same with other groups in the report, such as those of an attack."""
        return replace(self, report=self.report.model_copy(update={"groups": dict(groups)}))


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


def rows_of(case: Case, name: GroupName) -> list[ItemRow]:
    """All of a group; of the forget set's paraphrases only the sealed ones, which no tuning has seen."""
    group = case.groups.get(name)
    if group is None:
        return []
    return [row for row in group.items if name is not GroupName.FORGET_PARAPHRASES or row.split == "sealed"]


def control_rows(case: Case, name: GroupName) -> list[ItemRow]:
    """The control in the same kind of wording, if it has it."""
    return rows_of(case, CONTROL_OF[name]) or rows_of(case, GroupName.CONTROL)


def scored(case: Case, name: GroupName, read: Read) -> tuple[Scored, Scored] | None:
    """(forget, control) of one number an item; None where either side has none, or the control is about one subject."""
    sides = [_scored(rows, read) for rows in (rows_of(case, name), control_rows(case, name))]
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


def as_told(policy: Policy) -> Outcome:
    """What it means that forgotten people can be told from never-trained ones, though no answer comes back."""
    return "pass" if policy.membership_told == "report" else policy.membership_told


def people(count: int) -> str:
    return "one person" if count == 1 else f"{count} people"


def margin_check(  # its arguments are the check's fields
    case: Case, gate: str, name: str, side: str, words: str, harm: Bounds, margin: Any
) -> Check:
    """A number judged by its bounds; `words` say what it is, the rule says the rest."""
    found = judge(harm, margin, case.alpha, case.policy.undecided)
    return check(gate, name, found.outcome, side, f"{words}; {found.words}", bounds=harm, threshold=margin.accept)


def check(
    gate: str,
    name: str,
    outcome: str,
    side: str,
    words: str,
    *,
    bounds: Bounds | None = None,
    value: float | None = None,
    threshold: float | None = None,
) -> Check:
    return Check.model_validate(
        {
            "gate": gate,
            "name": name,
            "outcome": outcome,
            "side": side,
            "words": words,
            "value": value if bounds is None else bounds.value,
            "low": None if bounds is None else bounds.low,
            "high": None if bounds is None else bounds.high,
            "threshold": threshold,
        }
    )


def probability(one: ItemNumbers) -> float:
    return one.token_probability


def log_probability(one: ItemNumbers) -> float:
    return -one.nll


def accuracy(one: ItemNumbers) -> float:
    return one.token_accuracy


def strength(one: ItemNumbers) -> float:
    return one.extraction_strength
