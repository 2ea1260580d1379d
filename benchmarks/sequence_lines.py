"""The lines of out/sequences.jsonl: one for each place of each sequence, and which sequences are whole."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LINES = Path("out/sequences.jsonl")

Line = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One sequence: `wanted` requests, one after another. Each of its lines carries these four."""

    world: str
    wanted: int
    strategy: str
    seed: int


def task_of(line: Line) -> Task:
    return Task(line["world"], line["wanted"], line["strategy"], line["seed"])


def finished(path: Path) -> set[Task]:
    return {task_of(line) for line in read(path) if line["requests"] >= line["wanted"]}


def read(path: Path) -> list[Line]:
    """The lines of the newest run of each sequence: that of place 0 begins it anew."""
    found: dict[Task, list[Line]] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        line = json.loads(text)
        if line["requests"] == 0:
            found[task_of(line)] = []
        found.setdefault(task_of(line), []).append(line)
    return [line for lines in found.values() for line in lines]


def write(path: Path, task: Task, line: Line) -> None:
    """One short append: processes that write into the same file do not mix their lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**asdict(task), **line}) + "\n")
    short = {name: round(one["exact"], 3) for name, one in line["levels"].items()}
    print(*asdict(task).values(), line["requests"], line.get("steps"), line.get("seconds"), short, flush=True)
