"""Curves of sequences of requests as an SVG: a panel a group, a line a strategy, the seeds' range as a band."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from statistics import mean
from xml.sax.saxutils import escape

from benchmarks.sequence_lines import Line

COLOURS = ("#0b6e4f", "#c1121f", "#1d4ed8", "#b45309", "#7c3aed", "#0891b2", "#db2777", "#4d7c0f", "#525252", "#a16207")
PANELS = {
    "forgotten": "Forgotten so far, answered exactly",
    "others": "People never requested, as trained",
    "others_held": "the same, in another phrasing they were taught",
    "others_unseen": "the same, in a phrasing nobody was taught of them",
    "utility": "General knowledge that no job trained on",
}
COLUMNS, WIDTH, HEIGHT, LEFT, TOP, GAP = 2, 300, 150, 40, 30, 50

Point = tuple[int, float, float, float]


def curve(lines: Sequence[Line], group: str) -> list[Point]:
    """(requests, mean, lowest, highest share exact of the seeds), at each place where every seed was asked."""
    by_place: dict[int, list[float]] = defaultdict(list)
    for one in lines:
        if group in one["levels"]:
            by_place[one["requests"]].append(one["levels"][group]["exact"])
    seeds = len({one["seed"] for one in lines})
    return sorted((at, mean(some), min(some), max(some)) for at, some in by_place.items() if len(some) == seeds)


def plot(strategies: Mapping[str, Sequence[Line]], wanted: int) -> str:
    """Every axis runs from 0 to 100 % and from 0 to `wanted` requests."""
    names = dict(zip(strategies, cycle(COLOURS), strict=False))
    rows = -(-len(PANELS) // COLUMNS)
    wide, high = COLUMNS * (LEFT + WIDTH) + GAP, rows * (TOP + HEIGHT + GAP) + 20 * -(-len(names) // 3)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="11">',
        f'<rect width="{wide}" height="{high}" fill="#fff"/>',
    ]
    for number, (group, title) in enumerate(PANELS.items()):
        left, top = LEFT + number % COLUMNS * (LEFT + WIDTH), TOP + number // COLUMNS * (TOP + HEIGHT + GAP)
        parts += _axes(title, left, top, wanted)
        for name, colour in names.items():
            parts += _drawn(curve(strategies[name], group), left, top, wanted, colour)
    for number, (name, colour) in enumerate(names.items()):
        x, y = LEFT + number % 3 * 230, rows * (TOP + HEIGHT + GAP) + 20 * (number // 3)
        parts.append(f'<line x1="{x}" y1="{y - 4}" x2="{x + 20}" y2="{y - 4}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 26}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _drawn(points: Sequence[Point], left: int, top: int, wanted: int, colour: str) -> list[str]:
    def places(shares: Sequence[tuple[int, float]]) -> str:
        return " ".join(f"{left + WIDTH * at / wanted:.1f},{top + HEIGHT * (1 - share):.1f}" for at, share in shares)

    line = places([(at, middle) for at, middle, _, _ in points])
    parts = [f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>']
    if any(low < high for _, _, low, high in points):
        around = [(at, low) for at, _, low, _ in points] + [(at, high) for at, _, _, high in reversed(points)]
        parts.insert(0, f'<polygon points="{places(around)}" fill="{colour}" fill-opacity="0.12"/>')
    return parts


def _axes(title: str, left: int, top: int, wanted: int) -> list[str]:
    parts = [f'<text x="{left}" y="{top - 8}" font-weight="bold">{escape(title)}</text>']
    for percent in (0, 50, 100):
        y = top + HEIGHT * (1 - percent / 100)
        parts.append(f'<line x1="{left}" y1="{y}" x2="{left + WIDTH}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{percent}</text>')
    for at in sorted({0, wanted // 2, wanted}):
        x = left + WIDTH * at / wanted
        parts.append(f'<text x="{x}" y="{top + HEIGHT + 16}" text-anchor="middle">{at}</text>')
    return parts
