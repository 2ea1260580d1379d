"""The table and the curves of what `benchmarks.sequences` measured: `python -m benchmarks.sequences_summary`.

Prints a Markdown table, a row a strategy, and writes docs/sequential.svg: a panel a group, a line a strategy, the mean
of the seeds.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.sequences import LINES, read

COLOURS = ("#0b6e4f", "#c1121f", "#1d4ed8", "#b45309", "#7c3aed", "#0891b2", "#db2777", "#4d7c0f", "#525252", "#a16207")
PANELS = {
    "forgotten": "Forgotten so far, answered exactly",
    "others": "People never requested, as trained",
    "others_held": "the same, in another phrasing they were taught",
    "others_unseen": "the same, in a phrasing nobody was taught of them",
}
WIDTH, HEIGHT, LEFT, TOP, GAP = 300, 150, 40, 30, 50

Lines = Sequence[dict[str, Any]]
Point = tuple[int, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=Path, default=LINES)
    parser.add_argument("--plot", type=Path, default=Path("docs/sequential.svg"))
    chosen = parser.parse_args()
    lines = read(chosen.lines)
    print("\n".join(table(lines)))
    chosen.plot.write_text(plot(lines), encoding="utf-8")


def table(lines: Lines) -> list[str]:
    """Where each strategy stands after its last request: percent exact, and mean token probability where it matters."""
    rows = [
        (
            "| strategy | seeds | after | forgotten so far | in other words "
            "| others | taught phrasing | untaught phrasing | utility | control | s a request, first and last quarter |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, some in by_strategy(lines).items():
        after = min(max(one["requests"] for one in some if one["seed"] == seed) for seed in seeds_of(some))
        before, last = ([one for one in some if one["requests"] == at] for at in (0, after))
        kept = [
            f"{_exact(before, group)} → {_exact(last, group)}"
            for group in ("others", "others_held", "others_unseen", "utility")
        ]
        gone = [
            f"{_exact(last, group)} / {_level(last, group, 'probability'):.3f} / {max_of(last, group):.0e}"
            for group in ("forgotten", "forgotten_held")
        ]
        control = f"{_exact(last, 'control')} / {_level(last, 'control', 'probability'):.3f}"
        seeds = ", ".join(map(str, seeds_of(some)))
        rows.append(
            f"| {name} | {seeds} | {after} | {' | '.join(gone)} | {' | '.join(kept)} | {control} | {seconds(some)} |"
        )
    return rows


def by_strategy(lines: Lines) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        found[line["strategy"]].append(line)
    return {name: some for name, some in found.items() if any(one["requests"] for one in some)}


def seeds_of(lines: Lines) -> list[int]:
    return sorted({one["seed"] for one in lines if one["requests"]})


def seconds(lines: Lines) -> str:
    """Mean seconds of the jobs of the first quarter of the sequence, and of those of the last."""
    jobs = [(one["requests"], one["seconds"]) for one in lines if one["requests"]]
    most = max(at for at, _ in jobs)
    first = [took for at, took in jobs if at <= max(jobs[0][0], most / 4)]
    last = [took for at, took in jobs if at > most * 3 / 4]
    return f"{mean(first):.1f}, {mean(last):.1f}"


def max_of(lines: Lines, group: str) -> float:
    return max(one["levels"][group]["largest"] for one in lines)


def _level(lines: Lines, group: str, what: str) -> float:
    return mean(one["levels"][group][what] for one in lines)


def _exact(lines: Lines, group: str) -> str:
    return f"{100 * _level(lines, group, 'exact'):.1f}"


def plot(lines: Lines) -> str:
    """An SVG of one panel a group; every axis runs from 0 to 100 %."""
    strategies = by_strategy(lines)
    most = max((one["requests"] for one in lines), default=1) or 1
    wide, high = 2 * (LEFT + WIDTH) + GAP, 2 * (TOP + HEIGHT + GAP) + 20 * -(-len(strategies) // 3)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="11">',
        f'<rect width="{wide}" height="{high}" fill="#fff"/>',
    ]
    for number, (group, title) in enumerate(PANELS.items()):
        left, top = LEFT + number % 2 * (LEFT + WIDTH), TOP + number // 2 * (TOP + HEIGHT + GAP)
        parts += _axes(title, left, top, most)
        for name, colour in zip(strategies, _colours(), strict=False):
            parts.append(_line(curve(strategies[name], group), left, top, most, colour))
    for number, (name, colour) in enumerate(zip(strategies, _colours(), strict=False)):
        x, y = LEFT + number % 3 * 230, 2 * (TOP + HEIGHT + GAP) + 20 * (number // 3)
        parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 20}" y2="{y - 4}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 26}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def curve(lines: Lines, group: str) -> list[Point]:
    """(requests, mean over the seeds of the share exact), at each place where every seed of the strategy was asked."""
    by_place: dict[int, list[float]] = defaultdict(list)
    for one in lines:
        if group in one["levels"]:
            by_place[one["requests"]].append(one["levels"][group]["exact"])
    seeds = len(seeds_of(lines))
    return sorted((place, mean(some)) for place, some in by_place.items() if len(some) == seeds)


def _colours() -> Iterable[str]:
    return COLOURS * 3


def _line(points: Sequence[Point], left: int, top: int, most: int, colour: str) -> str:
    places = " ".join(f"{left + WIDTH * at / most:.1f},{top + HEIGHT * (1 - share):.1f}" for at, share in points)
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def _axes(title: str, left: int, top: int, most: int) -> list[str]:
    parts = [f'<text x="{left}" y="{top - 8}" font-weight="bold">{escape(title)}</text>']
    for percent in (0, 50, 100):
        y = top + HEIGHT * (1 - percent / 100)
        parts.append(f'<line x1="{left}" y1="{y}" x2="{left + WIDTH}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{percent}</text>')
    for at in sorted({0, most // 2, most}):
        x = left + WIDTH * at / most
        parts.append(f'<text x="{x}" y="{top + HEIGHT + 16}" text-anchor="middle">{at}</text>')
    return parts


if __name__ == "__main__":
    main()
