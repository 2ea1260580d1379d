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
    """A row a candidate, a column a size; see `cell`."""
    sizes = sorted({line["size"] for line in lines})
    rows = [
        f"| candidate | {' | '.join('one person' if size == 1 else f'{size} people' for size in sizes)} |",
        f"|---|{'---|' * len(sizes)}",
    ]
    for candidate in candidates:
        found = dict(_by_size(lines, candidate))
        if found:
            rows.append(f"| `{candidate}` | {' | '.join(cell(found.get(size, [])) for size in sizes)} |")
    return rows


def cell(lines: Lines) -> str:
    """`accepted / review / rejected`, and in how many of the last two kinds each gate had a say."""
    if not lines:
        return "–"
    counts = Counter(line["verdict"] for line in lines)
    words = f"{counts['accepted']} / {counts['needs_review']} / {counts['rejected'] + counts['not_memorised']}"
    found: Counter[str] = Counter()
    for line in lines:
        wanted = {"rejected": "reject", "needs_review": "review"}.get(line["verdict"])
        found.update({one["gate"] for one in line["checks"] if one["outcome"] == wanted})
    said = ", ".join(f"{gate} {count}" for gate, count in sorted(found.items()))
    return f"{words}: {said}" if said else words


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
