"""Two SVGs of what `benchmarks.methods` measured, without a plotting library.

`plot_plane`: forgetting against utility, a point a method and step size, a cross for the range of the seeds.
`plot_curves`: a small panel a method, what is left and what is kept over the step size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from statistics import mean
from typing import Protocol
from xml.sax.saxutils import escape

# In the order of the panels and of the key.
COLOURS = {
    "undial_own": "#0b6e4f",
    "undial": "#22c55e",
    "undial_alone": "#a3e635",
    "gradient_ascent": "#c1121f",
    "random_labels": "#525252",
    "adversarial_labels": "#a3a3a3",
    "ascent_descent": "#f97316",
    "ascent_descent_general": "#fbbf24",
    "ascent_kl": "#7c3aed",
    "ascent_kl_general": "#c4b5fd",
    "npo": "#1d4ed8",
    "simnpo": "#38bdf8",
    "idk_dpo": "#db2777",
    "ce_u": "#4d7c0f",
    "wga": "#a16207",
    "rmu": "#0f172a",
    "rmu_loose": "#64748b",
    "falcon": "#0891b2",
    "falcon_loose": "#67e8f9",
}
TITLES = {
    "stopped": "As the product runs it: stopped at the never-trained level",
    "fixed": "A fixed number of epochs, no stop, no bound on ascent",
}
SHORT = {"stopped": "stopped", "fixed": "fixed epochs"}
LEFT_MIN, LEFT_MAX = -0.1, 1.0


class Point(Protocol):
    @property
    def arm(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def left(self) -> tuple[float, ...]: ...
    @property
    def utility(self) -> tuple[float, ...]: ...
    @property
    def loss(self) -> tuple[float, ...]: ...


def plot_plane(found: Sequence[Point], left_band: float, utility_band: float) -> str:
    """A panel an arm, the oracle at (0, its utility), its band shaded."""
    arms = [arm for arm in TITLES if any(point.arm == arm for point in found)]
    wide, high = 470, 400
    rates = sorted({point.learning_rate for point in found})
    methods = methods_of(found)
    legend = 22 * -(-len(methods) // 5)
    parts = _open(wide * len(arms) + 20, high + 60 + legend)
    for number, arm in enumerate(arms):
        some = [point for point in found if point.arm == arm]
        parts += _plane(some, TITLES[arm], _Frame(50 + wide * number, 40), left_band, utility_band, rates)
    for number, method in enumerate(methods):
        x, y = 50 + 178 * (number % 5), high + 62 + 22 * (number // 5)
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{colour(method)}"/>')
        parts.append(f'<text x="{x + 10}" y="{y}">{escape(method)}</text>')
    for number, rate in enumerate(rates):
        x, y = 50 + 100 * number, high + 36
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="{_radius(rate, rates)}" fill="#777"/>')
        parts.append(f'<text x="{x + 12}" y="{y}">{rate:.0e}</text>')
    return "\n".join([*parts, "</svg>\n"])


def plot_curves(found: Sequence[Point]) -> str:
    """Green: utility; red: what is left. Solid: fixed epochs; dashed: stopped. Bars: the range of the seeds."""
    wide, high, across = 230, 150, 4
    methods = methods_of(found)
    parts = _open(wide * across + 30, (high + 20) * -(-len(methods) // across) + 50)
    key = [("#0b6e4f", "utility"), ("#c1121f", "left of the forgotten (1 = all, 0 = as the oracle)")]
    for number, (ink, words) in enumerate(key):
        parts.append(f'<rect x="{40 + 110 * number}" y="14" width="14" height="4" fill="{ink}"/>')
        parts.append(f'<text x="{60 + 110 * number}" y="20">{words}</text>')
    parts.append('<text x="470" y="20">solid: fixed epochs; dashed: stopped; x: step size</text>')
    rates = sorted({point.learning_rate for point in found})
    for number, method in enumerate(methods):
        x, y = 40 + wide * (number % across), 56 + (high + 20) * (number // across)
        parts += _small_axes(method, x, y, wide - 40, high - 40, rates)
        for arm in SHORT:
            some = sorted(
                (point for point in found if (point.arm, point.method) == (arm, method)),
                key=lambda point: point.learning_rate,
            )
            for ink, values in (("#0b6e4f", [one.utility for one in some]), ("#c1121f", [one.left for one in some])):
                places = [x + _log_place(one.learning_rate, rates) * (wide - 40) for one in some]
                parts += _curve(places, values, y, high - 40, ink, dashed=arm == "stopped")
    return "\n".join([*parts, "</svg>\n"])


def methods_of(found: Sequence[Point]) -> list[str]:
    """In the order of COLOURS; methods it does not know come last."""
    there = {point.method for point in found}
    return [name for name in COLOURS if name in there] + sorted(there - set(COLOURS))


def colour(method: str) -> str:
    return COLOURS.get(method, "#000")


@dataclass(frozen=True)
class _Frame:
    """Where a panel stands, and how its numbers become places."""

    left: int
    top: int
    wide: int = 400
    high: int = 330

    def x(self, value: float) -> float:
        return self.left + self.wide * (min(max(value, LEFT_MIN), LEFT_MAX) - LEFT_MIN) / (LEFT_MAX - LEFT_MIN)

    def y(self, value: float) -> float:
        return self.top + self.high * (1 - value)


def _plane(
    some: Sequence[Point], title: str, frame: _Frame, left_band: float, utility_band: float, rates: Sequence[float]
) -> list[str]:
    oracle = mean(utility + loss for point in some for utility, loss in zip(point.utility, point.loss, strict=True))
    near, far = frame.x(-left_band), frame.x(left_band)
    top, bottom = frame.y(1), frame.y(oracle - utility_band)
    return [
        f'<text x="{frame.left}" y="{frame.top - 14}" font-weight="bold">{escape(title)}</text>',
        (
            f'<rect x="{near:.1f}" y="{top:.1f}" width="{far - near:.1f}" height="{bottom - top:.1f}" '
            'fill="#fde68a" stroke="#d97706"/>'
        ),
        *_plane_axes(frame),
        *(part for point in some for part in _spot(point, frame, rates)),
        _cross(frame.x(0), frame.y(oracle)),
    ]


def _plane_axes(frame: _Frame) -> list[str]:
    parts = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = frame.y(value)
        parts.append(_line(frame.left, y, frame.left + frame.wide, y, "#e5e5e5"))
        parts.append(f'<text x="{frame.left - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
        parts.append(
            f'<text x="{frame.x(value):.1f}" y="{frame.top + frame.high + 16}" text-anchor="middle">{value:g}</text>'
        )
    middle_x, middle_y, edge = frame.left + frame.wide / 2, frame.top + frame.high / 2, frame.left - 34
    return [
        *parts,
        (
            f'<text x="{middle_x}" y="{frame.top + frame.high + 34}" text-anchor="middle">'
            "left of the forgotten: token probability above the oracle's</text>"
        ),
        (
            f'<text transform="rotate(-90 {edge},{middle_y})" x="{edge}" y="{middle_y}" text-anchor="middle">'
            "utility: token probability of the rest</text>"
        ),
    ]


def _spot(point: Point, frame: _Frame, rates: Sequence[float]) -> list[str]:
    ink, x, y = colour(point.method), frame.x(mean(point.left)), frame.y(mean(point.utility))
    faint = 'stroke-opacity="0.45"'
    return [
        _line(frame.x(min(point.left)), y, frame.x(max(point.left)), y, ink, faint),
        _line(x, frame.y(min(point.utility)), x, frame.y(max(point.utility)), ink, faint),
        (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_radius(point.learning_rate, rates)}" fill="{ink}" '
            'fill-opacity="0.75" stroke="#fff" stroke-width="0.6"/>'
        ),
    ]


def _small_axes(title: str, left: int, top: int, wide: int, high: int, rates: Sequence[float]) -> list[str]:
    parts = [f'<text x="{left}" y="{top - 8}" font-weight="bold">{escape(title)}</text>']
    for value in (0, 0.5, 1):
        y = top + high * (1 - value)
        parts.append(_line(left, y, left + wide, y, "#ddd"))
        parts.append(f'<text x="{left - 5}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for rate in rates:
        x = left + wide * _log_place(rate, rates)
        parts.append(f'<text x="{x:.1f}" y="{top + high + 15}" text-anchor="middle">{rate:.0e}</text>')
    return parts


def _curve(
    places: Sequence[float], values: Sequence[tuple[float, ...]], top: int, high: int, ink: str, *, dashed: bool
) -> list[str]:
    def y(value: float) -> float:
        return top + high * (1 - min(max(value, -0.05), 1.0))

    route = " ".join(f"{x:.1f},{y(mean(some)):.1f}" for x, some in zip(places, values, strict=True))
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    bars = [
        _line(x, y(min(some)), x, y(max(some)), ink, 'stroke-opacity="0.4" stroke-width="3"')
        for x, some in zip(places, values, strict=True)
    ]
    return [*bars, f'<polyline points="{route}" fill="none" stroke="{ink}" stroke-width="1.6"{dash}/>']


def _log_place(rate: float, rates: Sequence[float]) -> float:
    """0 at the smallest rate, 1 at the largest."""
    whole = log10(rates[-1] / rates[0])
    return log10(rate / rates[0]) / whole if whole else 0.5


def _radius(rate: float, rates: Sequence[float]) -> float:
    return 3 + 1.5 * rates.index(rate)


def _line(x1: float, y1: float, x2: float, y2: float, ink: str, also: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{ink}" {also}/>'


def _cross(x: float, y: float) -> str:
    return (
        f'<path d="M{x - 7:.1f} {y:.1f}H{x + 7:.1f}M{x:.1f} {y - 7:.1f}V{y + 7:.1f}" stroke="#000" stroke-width="2.2"/>'
        f'<text x="{x + 24:.1f}" y="{y + 4:.1f}" font-weight="bold">oracle</text>'
    )


def _open(wide: int, high: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="11">',
        f'<rect width="{wide}" height="{high}" fill="#fff"/>',
    ]
