"""What `benchmarks.methods` found, in tables, in words and in two plots: `python -m benchmarks.methods_summary`.

Everything is counted against the same seed's oracle, the LLM that never met the forgotten authors:
    left      token probability of the forgotten answers minus the oracle's, under the taught question or its
              paraphrase, whichever is farther off
    utility   mean over `UTILITY` of the groups' token probability
A run is in the oracle's band if |left| is at most `LEFT_BAND` and its utility at most `UTILITY_BAND` below the
oracle's; it is a collapse if its utility is under half of what the LLM had before. All three numbers were set before
the sweep, and a method reaches the band at a step size if every seed does.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.methods import ARMS, LINES, read
from benchmarks.methods_plot import plot_curves, plot_plane

LEFT_BAND = 0.05
UTILITY_BAND = 0.05
COLLAPSED_SHARE = 0.5
UTILITY = ("kept", "kept_paraphrased", "others", "others_paraphrased", "facts")
FORGET = ("forget", "forget_paraphrased")
# With retain rows and without: what is claimed of UnDIAL, beside the ascent that is given the same.
RIVALS = (("undial_alone", "gradient_ascent"), ("undial", "ascent_descent"))
CLAIMED_DECADES = 3

Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Point:
    """One method at one step size: a number per seed, in the seeds' order. Lines are kept for the long table."""

    arm: str
    method: str
    learning_rate: float
    left: tuple[float, ...]
    utility: tuple[float, ...]
    loss: tuple[float, ...]
    collapsed: tuple[bool, ...]
    lines: tuple[Mapping[str, Any], ...]

    @property
    def in_band(self) -> bool:
        return all(abs(left) <= LEFT_BAND for left in self.left) and all(loss <= UTILITY_BAND for loss in self.loss)

    @property
    def miss(self) -> float:
        """How far the worst seed is from the oracle, in whichever of the two it is farther."""
        return max(*map(abs, self.left), *self.loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=Path, default=LINES)
    parser.add_argument("--plots", type=Path, default=Path("docs"))
    chosen = parser.parse_args()
    found = points(read(chosen.lines))
    if not found:
        parser.error(f"{chosen.lines} has no run beside its seed's base and oracle: run 'make bench-methods' first")
    for arm in ARMS:
        some = [point for point in found if point.arm == arm]
        print("\n".join([f"\n{arm}\n", *grid(some), "", *best(some), "", *statements(some)]))
    print("\n".join(["", *references(read(chosen.lines)), "", *duel(found)]))
    (chosen.plots / "methods-plane.svg").write_text(plot_plane(found, LEFT_BAND, UTILITY_BAND), encoding="utf-8")
    (chosen.plots / "methods-rates.svg").write_text(plot_curves(found), encoding="utf-8")


def points(lines: Lines) -> list[Point]:
    """Of every method and step size, in the order measured; a seed without base or oracle is left out."""
    reference = {(line["arm"], line["seed"]): line for line in lines if line["arm"] not in ARMS}
    groups: dict[tuple[str, str, float], list[Mapping[str, Any]]] = {}
    for line in sorted(lines, key=lambda line: line["seed"]):
        if line["arm"] in ARMS and {("base", line["seed"]), ("oracle", line["seed"])} <= set(reference):
            groups.setdefault((line["arm"], line["method"], line["learning_rate"]), []).append(line)
    return [_point(key, some, reference) for key, some in sorted(groups.items(), key=lambda item: item[0][::-1])]


def _point(key: tuple[str, str, float], lines: Lines, reference: Mapping[tuple[str, int], Mapping[str, Any]]) -> Point:
    oracles = [reference["oracle", line["seed"]] for line in lines]
    bases = [reference["base", line["seed"]] for line in lines]
    return Point(
        *key,
        left=tuple(left(line, oracle) for line, oracle in zip(lines, oracles, strict=True)),
        utility=tuple(map(utility, lines)),
        loss=tuple(utility(oracle) - utility(line) for line, oracle in zip(lines, oracles, strict=True)),
        collapsed=tuple(
            utility(line) < COLLAPSED_SHARE * utility(base) for line, base in zip(lines, bases, strict=True)
        ),
        lines=tuple(lines),
    )


def left(line: Mapping[str, Any], oracle: Mapping[str, Any]) -> float:
    return max((probability(line, group) - probability(oracle, group) for group in FORGET), key=abs)


def utility(line: Mapping[str, Any]) -> float:
    return mean(probability(line, group) for group in UTILITY)


def probability(line: Mapping[str, Any], group: str) -> float:
    """0 for an LLM whose numbers are none any more: it says nothing at all."""
    return float(line["levels"][group]["probability"]) if line["levels"] else 0.0


def grid(some: Sequence[Point]) -> list[str]:
    """A row a method, a column a step size: `left / utility`, means of the seeds; bold in the band, † collapsed."""
    rates = sorted({point.learning_rate for point in some})
    rows = [
        f"| method | {' | '.join(f'{rate:.0e}' for rate in rates)} |",
        f"|---|{'---|' * len(rates)}",
    ]
    for method, of_method in by_method(some).items():
        cells = {point.learning_rate: _cell(point) for point in of_method}
        rows.append(f"| `{method}` | {' | '.join(cells.get(rate, '') for rate in rates)} |")
    return rows


def _cell(point: Point) -> str:
    text = f"{mean(point.left):+.2f} / {mean(point.utility):.2f}"
    if point.in_band:
        return f"**{text}**"
    return f"{text} †" if any(point.collapsed) else text


def best(some: Sequence[Point]) -> list[str]:
    """Each method at the step size that comes nearest to the oracle in its worst seed."""
    rows = [
        (
            "| method | step size | forgotten: exact % / p / largest | paraphrased: exact % / p | retain rows p "
            "| others p | others paraphrased p | facts p | control p | steps | s |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    nearest = [min(of_method, key=lambda point: point.miss) for of_method in by_method(some).values()]
    for point in sorted(nearest, key=lambda point: point.miss):
        whole = [line for line in point.lines if line["levels"]]
        if not whole:
            continue
        kept = [_mean(whole, group, "probability", 2) for group in ("kept", "others", "others_paraphrased", "facts")]
        rows.append(
            f"| `{point.method}` | {point.learning_rate:.0e} | {_percent(whole, 'forget')} / "
            f"{_mean(whole, 'forget', 'probability', 3)} / {largest(whole):.0e} | "
            f"{_percent(whole, 'forget_paraphrased')} / {_mean(whole, 'forget_paraphrased', 'probability', 3)} | "
            f"{' | '.join(kept)} | {_mean(whole, 'control', 'probability', 3)} | "
            f"{mean(line['steps'] for line in whole):.0f} | {mean(line['seconds'] for line in whole):.1f} |"
        )
    return rows


def references(lines: Lines) -> list[str]:
    rows = []
    for arm in ("base", "oracle"):
        some = [line for line in lines if line["arm"] == arm]
        if not some:
            continue
        groups = [f"{group} {_mean(some, group, 'probability', 3)}" for group in (*FORGET, *UTILITY, "control")]
        rows.append(f"{arm}, mean of {len(some)} seeds: {', '.join(groups)}; utility {mean(map(utility, some)):.3f}")
    return rows


def statements(some: Sequence[Point]) -> list[str]:
    """What is in the band, what collapses."""
    band = [f"{point.method} at {point.learning_rate:.0e}" for point in some if point.in_band]
    ruined = [
        f"{point.method} at {point.learning_rate:.0e} ({sum(point.collapsed)} of {len(point.collapsed)})"
        for point in some
        if any(point.collapsed)
    ]
    return [
        f"In the oracle's band with every seed: {', '.join(band) or 'none'}.",
        f"Collapsed (seeds): {', '.join(ruined) or 'none'}.",
    ]


def duel(found: Sequence[Point]) -> list[str]:
    """Does UnDIAL keep utility over three decades of step size where ascent collapses?"""
    rows = []
    for arm in ARMS:
        table = by_method([point for point in found if point.arm == arm])
        for name, rival in RIVALS:
            if name in table and rival in table:
                ours, theirs = (sound_decades(table[one]) for one in (name, rival))
                claim = "holds" if ours >= CLAIMED_DECADES > theirs else "does not hold"
                rows.append(
                    f"{arm}: no seed collapses over {ours:.0f} decades of step size with {name} "
                    f"({_curve(table[name])}), over {theirs:.0f} with {rival} ({_curve(table[rival])}): "
                    f"the claim {claim} here."
                )
    return rows


def sound_decades(of_method: Sequence[Point]) -> float:
    """From the smallest step size to the last before the first collapse, in decades; -1 if the first collapses."""
    sound = -1.0
    ordered = sorted(of_method, key=lambda point: point.learning_rate)
    for point in ordered:
        if any(point.collapsed):
            break
        sound = round(log10(point.learning_rate / ordered[0].learning_rate), 6)
    return sound


def by_method(some: Iterable[Point]) -> dict[str, list[Point]]:
    table: dict[str, list[Point]] = {}
    for point in some:
        table.setdefault(point.method, []).append(point)
    return table


def largest(lines: Lines) -> float:
    """The largest chance, over seeds and both wordings, that one sample is a forgotten answer."""
    return max(float(line["levels"][group]["largest"]) for line in lines for group in FORGET)


def _curve(of_method: Sequence[Point]) -> str:
    ordered = sorted(of_method, key=lambda point: point.learning_rate)
    return "utility " + ", ".join(f"{mean(point.utility):.2f} at {point.learning_rate:.0e}" for point in ordered)


def _mean(lines: Lines, group: str, what: str, digits: int) -> str:
    return f"{mean(line['levels'][group][what] for line in lines):.{digits}f}"


def _percent(lines: Lines, group: str) -> str:
    return f"{100 * mean(line['levels'][group]['exact'] for line in lines):.0f}"


if __name__ == "__main__":
    main()
