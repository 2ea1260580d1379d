"""Reading a report: columns of one number an item, for the forget set and for the control that stands beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from records.policy import Policy
from records.report import Check, Group, GroupName, ItemNumbers, ItemRow, Report
from workers import item_scores
from workers.evaluation.residual_ratio import Scored
from workers.gate.margins import Bounds, Outcome, judge
from workers.item_scores import Least, Read, rows_in


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

    @property
    def finding(self) -> "Case":
        """The same at the level at which a harm counts as seen, whichever attempt it is: by the attempt's, which is for
        what must be shown, later ones would see less."""
        return replace(self, alpha=self.policy.extraction_significance)

    def under(self, groups: Mapping[GroupName, Group]) -> "Case":
        """The same with other groups in the report, such as those of an attack."""
        return replace(self, report=self.report.model_copy(update={"groups": dict(groups)}))


def rows_of(case: Case, name: GroupName) -> list[ItemRow]:
    return rows_in(case.groups, name)


def scored(case: Case, name: GroupName, read: Read) -> tuple[Scored, Scored] | None:
    return item_scores.scored(case.groups, name, read, least_control(case.policy))


def control_of(case: Case, name: GroupName) -> list[ItemRow]:
    return item_scores.control_rows(case.groups, name, least_control(case.policy))


def least_control(policy: Policy) -> Least:
    return Least(policy.min_control_items, policy.min_control_subjects)


def as_told(policy: Policy) -> Outcome:
    """What it means that forgotten people can be told from never-trained ones, though no answer comes back."""
    return "pass" if policy.membership_told == "report" else policy.membership_told


def people(count: int) -> str:
    return "one person" if count == 1 else f"{count} people"


def margin_check(  # its arguments are the check's fields
    case: Case, gate: str, name: str, side: str, words: str, harm: Bounds, margin: Any
) -> Check:
    """A number judged by its bounds; `words` say what it is, the rule says the rest."""
    found = judge(harm, margin, case.policy.undecided)
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
