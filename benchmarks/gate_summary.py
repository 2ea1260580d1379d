"""The tables of what `benchmarks.gate` found: `python -m benchmarks.gate_summary`.

Only requests count of which every verdict is final: rejected before the attacks, or taken with them. To count what is
rejected at once, and leave out what waits, would flatter the gate. Intervals are Clopper and Pearson's of independent
verdicts, which verdicts on the same LLM are not.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gate_lines import LINES, Line, is_final, read_lines
from workers.evaluation.intervals import clopper_pearson

SHOULD_PASS = ("oracle", "oracle-2")
SHOULD_NOT = ("base", "left-10", "left-20", "left-30", "masked", "over", "fragile", "damaged")
METHODS = ("undial", "npo-held", "falcon")
MOST_FALSE_ACCEPTS, LEAST_ACCEPTED = 0.05, 0.80
# From this share on of its verdicts that are not `accepted`, a defect counts as detectable.
DETECTED = 0.95
JUDGED_ALONE = frozenset({1})

Lines = Sequence[Line]


@dataclass(frozen=True)
class Rate:
    hits: int
    of: int

    @property
    def words(self) -> str:
        if not self.of:
            return "none judged"
        low, high = clopper_pearson(self.hits, self.of)
        return f"{self.hits} of {self.of} ({self.hits / self.of:.1%}, 95 % interval {low:.1%} to {high:.1%})"

    @property
    def share(self) -> float | None:
        return self.hits / self.of if self.of else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=Path, default=LINES)
    lines = read_lines(parser.parse_args().lines)
    final = whole(lines)
    print(f"{len(final)} verdicts, seeds {', '.join(map(str, sorted({one['seed'] for one in final})))}")
    if len(lines) > len(final):
        print(f"{len(lines) - len(final)} more are of requests of which some wait for their attacks: not counted")
    print("\n" + "\n".join(statements(final)))
    print("\n" + "\n".join(table(final, (*SHOULD_PASS, *SHOULD_NOT))))
    print("\n" + "\n".join(table(final, METHODS)))


def whole(lines: Lines) -> list[Line]:
    """Those of requests of which every line is final."""
    waiting = {(line["seed"], line["request"]) for line in lines if not is_final(line)}
    return [line for line in lines if (line["seed"], line["request"]) not in waiting]


def statements(lines: Lines) -> list[str]:
    """Whether the two targets hold, and from which size on each defect is detectable."""
    false = rate([line for line in lines if line["candidate"] in SHOULD_NOT], "accepted")
    oracles = [line for line in lines if line["candidate"] in SHOULD_PASS]
    large = rate([line for line in oracles if line["size"] not in JUDGED_ALONE], "accepted")
    alone = rate([line for line in oracles if line["size"] in JUDGED_ALONE], "accepted")
    return [
        f"False accepts: {false.words}; at most {MOST_FALSE_ACCEPTS:.0%} wanted: {_held(false, 'most')}.",
        (
            f"Oracles accepted at 5 and 20 people: {large.words}; at least {LEAST_ACCEPTED:.0%} wanted: "
            f"{_held(large, 'least')}."
        ),
        f"Oracles accepted at one person: {alone.words}.",
        *(
            f"{name}: {detectable(lines, name)}"
            for name in SHOULD_NOT
            if any(one["candidate"] == name for one in lines)
        ),
    ]


def rate(lines: Lines, verdict: str) -> Rate:
    return Rate(sum(line["verdict"] == verdict for line in lines), len(lines))


def detectable(lines: Lines, candidate: str) -> str:
    """The smallest size from which on it is hardly ever accepted, there and at every larger one."""
    by_size = {size: rate(some, "accepted") for size, some in _by_size(lines, candidate)}
    smallest = None
    for size in sorted(by_size, reverse=True):
        if 1 - (by_size[size].share or 0.0) < DETECTED:
            break
        smallest = size
    if smallest is None:
        return "not detectable at any size here"
    return f"detectable from {smallest} {'person' if smallest == 1 else 'people'} on"


def table(lines: Lines, candidates: Iterable[str]) -> list[str]:
    """A row a candidate and size: verdicts, and the gates whose checks rejected or wanted a person, with counts."""
    rows = [
        "| candidate | people | accepted | review | rejected | rejected by | sent to review by |",
        "|---|---|---|---|---|---|---|",
    ]
    for candidate in candidates:
        for size, some in _by_size(lines, candidate):
            counts = Counter(line["verdict"] for line in some)
            cells = [counts["accepted"], counts["needs_review"], counts["rejected"] + counts["not_memorised"]]
            shown = [f"`{candidate}`", size, *cells, caught(some, "reject"), caught(some, "review")]
            rows.append(f"| {' | '.join(map(str, shown))} |")
    return rows


def caught(lines: Lines, outcome: str) -> str:
    """Gate and how many verdicts it has such a check in; `review` only where nothing rejected."""
    wanted = {"reject": "rejected", "review": "needs_review"}[outcome]
    found: Counter[str] = Counter()
    for line in lines:
        if line["verdict"] == wanted:
            found.update({one["gate"] or one["name"] for one in line["checks"] if one["outcome"] == outcome})
    return ", ".join(f"{gate} {count}" for gate, count in sorted(found.items())) or "–"


def _by_size(lines: Lines, candidate: str) -> list[tuple[int, list[Line]]]:
    sizes = sorted({line["size"] for line in lines})
    found = [(size, [one for one in lines if (one["candidate"], one["size"]) == (candidate, size)]) for size in sizes]
    return [(size, some) for size, some in found if some]


def _held(measured: Rate, bound: str) -> str:
    if measured.share is None:
        return "not measured"
    held = measured.share <= MOST_FALSE_ACCEPTS if bound == "most" else measured.share >= LEAST_ACCEPTED
    return "holds" if held else "does not hold"


if __name__ == "__main__":
    main()
