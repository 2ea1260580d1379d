"""One answer from many criteria, over several attempts; and whether there was anything to forget.

Accepting is an intersection-union test (Berger 1982): a candidate is let through only if every criterion passes, each
at alpha, so whichever harm is real, accepting all the same has a chance of at most alpha. More criteria never make
that worse, so nothing is corrected for their number: `gate.verdict_of` is all there is to it.

Attempts do make it worse: each is another chance to be lucky on the same sealed probes. Attempt a of A is judged at

    alpha_a = (alpha / a) / (1 + 1/2 + … + 1/A)

the first the most generous, all together alpha (Bonferroni). alpha / a alone would spend 1.83 alpha in three.
"""

from dataclasses import dataclass
from typing import Literal

from workers.evaluation.calibration import MeanDeparture
from workers.evaluation.equivalence import units_needed


@dataclass(frozen=True, slots=True)
class Memorised:
    """Whether the forget set was known before; `needed` subjects would have decided what is undecided."""

    outcome: Literal["memorised", "not_memorised", "undecided"]
    low: float
    high: float
    needed: int | None
    words: str


def attempt_alpha(attempt: int, attempts: int, alpha: float = 0.05) -> float:
    """Level of attempt 1 … attempts; they sum to alpha."""
    if not 1 <= attempt <= attempts:
        raise ValueError(f"attempt must lie between 1 and {attempts}, not {attempt}")
    return alpha / attempt / sum(1 / k for k in range(1, attempts + 1))


def memorised(gap: MeanDeparture, subjects: int, margin: float, *, leaks: int = 0, alpha: float = 0.05) -> Memorised:
    """From the forget items' departure before unlearning, of a score of which more is better known.

    not_memorised is shown, not assumed: the gap's upper bound at 1 - alpha must be below `margin` > 0, and no item may
    have been produced word for word (`leaks`). Else memorised, where the lower bound is above 0 or something leaked,
    or undecided, which whoever wants to be safe treats as memorised. `subjects` are the forget set's.
    """
    if not margin > 0:
        raise ValueError("margin must be above 0: that nothing at all was learned cannot be shown")
    low, high = gap.interval(1 - 2 * alpha)
    if leaks > 0:
        return Memorised("memorised", low, high, None, f"{leaks} items were produced word for word before")
    if high < margin:
        return Memorised("not_memorised", low, high, None, f"at most {high:.3f} above never-trained, below {margin:g}")
    if low > 0:
        return Memorised("memorised", low, high, None, f"at least {low:.3f} above never-trained")
    needed = units_needed(gap.error * subjects**0.5, margin, alpha)
    words = f"between {low:.3f} and {high:.3f} above never-trained, margin {margin:g}: {subjects} subjects do not tell"
    if needed > subjects:
        words += f", about {needed} are needed, the control growing in step"
        return Memorised("undecided", low, high, needed, words)
    return Memorised("undecided", low, high, None, words)
