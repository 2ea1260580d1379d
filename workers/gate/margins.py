"""One number with its bounds against a margin: passed, for a person to see, or thrown away.

A criterion asks whether a harm (what is left, what was lost) is at most `accept`. Its bounds are one-sided, each at the
attempt's level alpha:

    high ≤ accept                              pass: shown
    value ≤ accept < high, sizes suffice       review: could have been shown, and was not
    value ≤ accept < high, sizes do not        as the policy says for what is undecided: pass, and the words say so
    value > reject, low > harmless             reject: harm is shown, and the best guess is beyond what is tolerated
    otherwise                                  review

Sizes suffice where a candidate without any harm would be shown to be so with chance 95 %: (1 + z_95/z_alpha) times
its distance from value to high fits into the margin. Then accepting a harm of `accept` has a chance of at most alpha.
Where they do not, nobody could pass, so only what can be shown counts: a true harm at `reject` is let through with
chance Φ(-(reject - accept)/error) by this criterion alone.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from records.policy import Margin, Undecided

POWER = 0.95

Outcome = Literal["pass", "review", "reject"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """A harm, of which more is worse. `units` are what was drawn: subjects or items; `harmless` is no harm at all.

    `reach` is how far above its value a harmless candidate's upper bound would lie; None: as far as this one's. A leak
    makes numbers scatter: were its own scatter to count, more of it would look like too few items.
    """

    value: float
    low: float
    high: float
    units: int
    unit: str = "people"
    harmless: float = 0.0
    reach: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    outcome: Outcome
    words: str


def judge(harm: Bounds, margin: Margin, alpha: float, undecided: Undecided) -> Judged:
    """The rule above, and a clause that says which line of it."""
    if harm.high <= margin.accept:
        return Judged("pass", f"shown to be at most {margin.accept:g}")
    if harm.value <= margin.accept:
        return _not_shown(harm, margin, alpha, undecided)
    if harm.value > margin.reject and harm.low > harm.harmless:
        return Judged("reject", f"rejected above {margin.reject:g}")
    if harm.low > harm.harmless:
        return Judged("review", f"accepted up to {margin.accept:g}, rejected above {margin.reject:g}")
    return Judged("review", f"above {margin.accept:g}, but too few items to tell this from chance")


def _not_shown(harm: Bounds, margin: Margin, alpha: float, undecided: Undecided) -> Judged:
    needed = units_needed(harm, margin, alpha)
    if needed is None:
        return Judged("review", f"not shown to be at most {margin.accept:g}, though there are enough {harm.unit}")
    count = "one person" if (harm.units, harm.unit) == (1, "people") else f"{harm.units} {harm.unit}"
    words = f"too few to show that it is at most {margin.accept:g}: {count} measured, about {needed} are needed"
    return Judged("pass" if undecided == "accept" else "review", words)


def units_needed(harm: Bounds, margin: Margin, alpha: float) -> int | None:
    """How many would show the margin to be kept, were there no harm; None if there are as many. Errors fall as
    1/√units.
    """
    normal = NormalDist()
    one_sided = harm.high - harm.value if harm.reach is None else harm.reach
    reach = (1 + normal.inv_cdf(POWER) / normal.inv_cdf(1 - alpha)) * one_sided
    room = margin.accept - harm.harmless
    if reach <= room:
        return None
    if room <= 0 or not math.isfinite(reach):
        return harm.units + 1
    return math.ceil(harm.units * (reach / room) ** 2)
