"""The lines of out/gate.jsonl: one verdict each, with the checks that did not pass."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from records.report import Report, Verdict

LINES = Path("out/gate.jsonl")

Line = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One candidate under one request of `size` people."""

    seed: int
    request: str
    size: int
    candidate: str


def line_of(case: Case, report: Report, verdicts: Sequence[Verdict]) -> Line:
    """`first` is the verdict without attacks, `verdict` the last; they are one if no attack was run."""
    last = verdicts[-1]
    return {
        **asdict(case),
        "first": str(verdicts[0].kind),
        "verdict": str(last.kind),
        "attacks": [one.name for one in report.attacks],
        "checks": [
            one.model_dump(mode="json", exclude={"words"}, exclude_none=True)
            for one in last.checks
            if one.outcome != "pass"
        ],
    }


def case_of(line: Line) -> Case:
    return Case(line["seed"], line["request"], line["size"], line["candidate"])


def is_final(line: Line) -> bool:
    """Whether everything was asked that the verdict needs: what attacks would have been run on was attacked."""
    return bool(line["attacks"]) or line["first"] in {"rejected", "not_memorised"}


def finished(path: Path) -> set[Case]:
    return {case_of(line) for line in read_lines(path) if is_final(line)}


def read_lines(path: Path) -> list[Line]:
    """The newest line of each case."""
    texts = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return list({case_of(line): line for line in map(json.loads, texts)}.values())


def write_line(path: Path, line: Line) -> None:
    """One short append: processes that write into the same file do not mix their lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    caught = [f"{one['gate']} {one['name']}" for one in line["checks"] if one["outcome"] == "reject"]
    print(*asdict(case_of(line)).values(), line["first"], line["verdict"], caught[:3], flush=True)
