"""Which forgotten items can still be told from ones never trained on? A list, with a bound on how much of it is wrong.

    p_i = (1 + #{control c: score_c ≥ score_i}) / (n_C + 1)          higher score = more like a trained item

is a p-value of "item i was never trained on" if it could have changed places with any control item: exact, whatever
the scores are. Ties count against the finding. Items of one person are alike, and could not change places with others'
one by one: of them the list is a hint, no proof.

Benjamini and Hochberg (1995) list the items with the k smallest p-values, k the largest with p_(k) ≤ k·q/m; at most the
share q of a list is wrong on average, and their dependence through the shared control does no harm (Bates et al. 2023).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workers.evaluation.variance_components import Floats, column


@dataclass(frozen=True, slots=True)
class Identified:
    """Ordinals of what is still identifiable at the false discovery rate `rate`, of `tested`.

    `able` says whether the control is large enough for a single identifiable item among them to be listed; if it is
    not, an empty list is no evidence, and `control_needed` are wanted.
    """

    listed: tuple[int, ...]
    p_values: tuple[float, ...]
    rate: float
    control: int
    control_needed: int

    @property
    def tested(self) -> int:
        return len(self.p_values)

    @property
    def able(self) -> bool:
        return self.control >= self.control_needed


def conformal_p_values(scores: ArrayLike, control_scores: ArrayLike) -> Floats:
    """p of each item against the control. O((n + n_C) log n_C)."""
    ours = column(scores, np.size(scores), "scores")
    theirs = np.sort(column(control_scores, np.size(control_scores), "control_scores"))
    if len(theirs) == 0:
        raise ValueError("control_scores is empty: attach a control dataset")
    as_high = len(theirs) - np.searchsorted(theirs, ours, side="left")
    return np.asarray((1 + as_high) / (len(theirs) + 1), dtype=np.float64)


def benjamini_hochberg(p_values: ArrayLike, rate: float) -> NDArray[np.intp]:
    """Ordinals of the rejected hypotheses, smallest p first."""
    p = column(p_values, np.size(p_values), "p_values")
    order = np.argsort(p, kind="stable")
    under = np.flatnonzero(p[order] <= rate * np.arange(1, len(p) + 1) / len(p))
    return order[: under[-1] + 1] if len(under) else order[:0]


def control_needed(tested: int, rate: float) -> int:
    """Smallest n_C at which the smallest possible p, 1/(n_C + 1), lists one item alone: m/q - 1."""
    return max(0, math.ceil(tested / rate - 1e-9) - 1)


def identified_items(scores: ArrayLike, control_scores: ArrayLike, rate: float = 0.05) -> Identified:
    """Items that are still identifiable, if items could change places."""
    p = conformal_p_values(scores, control_scores)
    listed = tuple(int(at) for at in benjamini_hochberg(p, rate))
    needed = control_needed(len(p), rate)
    return Identified(listed, tuple(p.tolist()), rate, int(np.size(control_scores)), needed)
