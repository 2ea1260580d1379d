"""The tables and the curves of what `benchmarks.sequences` measured: `python -m benchmarks.sequences_summary`.

For each world and number of requests: a Markdown table, a row a strategy, and docs/sequential-<world>-<requests>.svg, a
panel a group, a line a strategy: the mean of the seeds, in a band from the lowest of them to the highest.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import linear_regression, mean

from benchmarks.sequence_curves import plot
from benchmarks.sequence_lines import LINES, Line, read

KEPT = ("others", "others_held", "others_unseen", "utility")
FEW = 5

Lines = Sequence[Line]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=Path, default=LINES)
    parser.add_argument("--strategies", type=lambda words: words.split(","), help="default: all that were measured")
    parser.add_argument("--plots", type=Path, default=Path("docs"), help="folder of the curves")
    chosen = parser.parse_args()
    for (world, wanted), lines in by_study(read(chosen.lines)).items():
        strategies = by_strategy(lines, chosen.strategies)
        print(f"\n{world}, {wanted} requests\n\n" + "\n".join(table(strategies)))
        (chosen.plots / f"sequential-{world}-{wanted}.svg").write_text(plot(strategies, wanted), encoding="utf-8")


def by_study(lines: Lines) -> dict[tuple[str, int], list[Line]]:
    found: dict[tuple[str, int], list[Line]] = defaultdict(list)
    for line in lines:
        found[line["world"], line["wanted"]].append(line)
    return dict(sorted(found.items()))


def by_strategy(lines: Lines, chosen: Sequence[str] | None = None) -> dict[str, list[Line]]:
    """Strategies in the order chosen, or met; a seed that has done no job yet does not count."""
    begun = {(one["strategy"], one["seed"]) for one in lines if one["requests"]}
    names = chosen or list(dict.fromkeys(one["strategy"] for one in lines))
    found = {name: [one for one in lines if one["strategy"] == name and (name, one["seed"]) in begun] for name in names}
    return {name: some for name, some in found.items() if some}


def table(strategies: dict[str, list[Line]]) -> list[str]:
    """Where all were before the first request, and each strategy after the last at which every seed asked everybody.

    Cells: percent exact, / mean token probability, / largest chance that one sample is an answer. Means over the seeds,
    and lowest to highest of them in brackets; of the last kind the highest alone.
    """
    before = list({one["seed"]: one for some in strategies.values() for one in some if one["requests"] == 0}.values())
    return [
        (
            "| strategy | seeds | after | forgotten so far | in other words | others | taught phrasing "
            f"| untaught phrasing | utility | control | steps a request, first and last {FEW} | rows ~ requests^b |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        _row("before", before, 0, [], []),
        *(_strategy_row(name, some) for name, some in strategies.items()),
    ]


def _strategy_row(name: str, lines: Lines) -> str:
    seeds = {seed: [one for one in lines if one["seed"] == seed and one["requests"]] for seed in _seeds(lines)}
    asked = [{one["requests"] for one in some if "others" in one["levels"]} for some in seeds.values()]
    after = max(set.intersection(*asked), default=0)
    there = [one for one in lines if one["requests"] == after]
    steps = [mean_steps(some) for some in seeds.values()]
    growth = [found for some in seeds.values() if (found := exponent(cumulative_rows(some))) is not None]
    return _row(name, there, after, steps, growth)


def _row(name: str, there: Lines, after: int, steps: Sequence[tuple[float, float]], growth: Sequence[float]) -> str:
    gone = [_cell(there, group, "probability", "largest") for group in ("forgotten", "forgotten_held")]
    kept = [*(_cell(there, group) for group in KEPT), _cell(there, "control", "probability")]
    first, last = (spread([pair[at] for pair in steps], "{:.0f}") for at in (0, 1))
    seeds = ", ".join(map(str, _seeds(there)))
    cells = [name, seeds, str(after), *gone, *kept, f"{first}, {last}", spread(growth, "{:.2f}")]
    return f"| {' | '.join(cells)} |"


def _cell(lines: Lines, group: str, *also: str) -> str:
    """A dash if nobody of the group was asked."""
    some = [one["levels"][group] for one in lines if group in one["levels"]]
    if not some:
        return "–"
    parts = [spread([100 * one["exact"] for one in some], "{:.1f}")]
    if "probability" in also:
        parts.append(spread([one["probability"] for one in some], "{:.3f}"))
    if "largest" in also:
        parts.append(f"{max(one['largest'] for one in some):.0e}")
    return " / ".join(parts)


def spread(values: Sequence[float], form: str) -> str:
    """The mean and, where they differ as printed, the lowest and the highest: `98.3 (97.9–99.0)`."""
    if not values:
        return "–"
    middle, low, high = (form.format(one) for one in (mean(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low}–{high})"


def mean_steps(jobs: Lines) -> tuple[float, float]:
    """Optimiser steps a request: means of the first five and of the last five. A job's requests share its steps."""
    each, before = [], 0
    for job in sorted(jobs, key=lambda one: one["requests"]):
        newest = job["requests"] - before
        each += [job["steps"] / newest] * newest
        before = job["requests"]
    return mean(each[:FEW]), mean(each[-FEW:])


def cumulative_rows(jobs: Lines) -> list[tuple[int, int]]:
    """(requests, rows that got a gradient until then)."""
    found, total = [], 0
    for job in sorted(jobs, key=lambda one: one["requests"]):
        total += job["rows"]
        found.append((job["requests"], total))
    return found


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """b of y ~ x^b, by least squares of ln y on ln x; None with fewer than two points above 0.

    If the whole cost of n requests is ~ n^b, that of the n-th is ~ n^(b-1): no faster than √n means b ≤ 1.5.
    """
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in logs}) < 2:
        return None
    return linear_regression(*zip(*logs, strict=True)).slope


def _seeds(lines: Iterable[Line]) -> list[int]:
    return sorted({one["seed"] for one in lines})


if __name__ == "__main__":
    main()
