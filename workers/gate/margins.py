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
chance Φ(-(reject - accept)/error) by this criterion alone. Sizes are called too few at FIRST_ALPHA whatever the level:
a lower one asks for more to be shown, and must not turn what was not shown into what nobody could show.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from records.policy import Margin, Policy, Undecided
from workers.evaluation.acceptance import attempt_alpha

POWER = 0.95
FIRST_ALPHA = attempt_alpha(1, 3, Policy.model_fields["significance"].default)  # the first attempt's, by default

Outcome = Literal["pass", "review", "reject"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """A harm, of which more is worse. `units` are what was drawn: subjects or items; `harmless` is no harm at all.

    `reach` is how far above its value a harmless candidate's upper bound at FIRST_ALPHA would lie; None: as far as this
    one's. A leak makes numbers scatter: were its own scatter to count, more of it would look like too few items.
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


def judge(harm: Bounds, margin: Margin, undecided: Undecided) -> Judged:
    """The rule above, and a clause that says which line of it."""
    if harm.high <= margin.accept:
        return Judged("pass", f"shown to be at most {margin.accept:g}")
    if harm.value <= margin.accept:
        return _not_shown(harm, margin, undecided)
    if harm.value > margin.reject and harm.low > harm.harmless:
        return Judged("reject", f"rejected above {margin.reject:g}")
    if harm.low > harm.harmless:
        return Judged("review", f"accepted up to {margin.accept:g}, rejected above {margin.reject:g}")
    return Judged("review", f"above {margin.accept:g}, but too few items to tell this from chance")


def _not_shown(harm: Bounds, margin: Margin, undecided: Undecided) -> Judged:
    needed = units_needed(harm, margin)
    if needed is None:
        return Judged("review", f"not shown to be at most {margin.accept:g}, though there are enough {harm.unit}")
    count = "one person" if (harm.units, harm.unit) == (1, "people") else f"{harm.units} {harm.unit}"
    words = f"too few to show that it is at most {margin.accept:g}: {count} measured, about {needed} are needed"
    return Judged("pass" if undecided == "accept" else "review", words)


def units_needed(harm: Bounds, margin: Margin) -> int | None:
    """How many would show the margin to be kept, were there no harm; None if there are as many. Errors fall as
    1/√units.
    """
    normal = NormalDist()
    one_sided = harm.high - harm.value if harm.reach is None else harm.reach
    reach = (1 + normal.inv_cdf(POWER) / normal.inv_cdf(1 - FIRST_ALPHA)) * one_sided
    room = margin.accept - harm.harmless
    if reach <= room:
        return None
    if room <= 0 or not math.isfinite(reach):
        return harm.units + 1
    return math.ceil(harm.units * (reach / room) ** 2)
