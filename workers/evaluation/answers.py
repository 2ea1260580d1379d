"""Were no more right answers lost than allowed? The same questions before and after, each answer right or wrong.

Losses are few, so a t interval is bold: at a true loss of 2 % in 300 questions it would pass one time in seven. Here
the variance is that of McNemar's table under the hypothesis, a true loss of the margin Δ (Tango 1998):

    Z = (nΔ - (lost - gained)) / √(n (q_lost + q_gained - Δ²)),   q_gained = q_lost - Δ

with q_lost the larger root of 2n q² - ((lost + gained) + Δ(2n + lost - gained)) q + lost·Δ(1+Δ) = 0, where the table is
most likely. The count moves by half towards the hypothesis: answers come whole. Questions are taken to be independent.
"""

import math
from statistics import NormalDist

from workers.evaluation.equivalence import POWER, Finding, outcome_of

_NORMAL = NormalDist()
ROUND_OFF = 1e-9  # of shares that were added up


def answers_not_inferior(lost: float, gained: float, answers: int, margin: float, alpha: float = 0.05) -> Finding:
    """Of so many questions `lost` were answered right before only, `gained` after only; `margin` is too much loss.
    A question asked in several wordings is lost in part where some of its answers are: that scatters less than a whole.
    """
    if not (min(lost, gained) >= 0 and lost + gained <= answers + ROUND_OFF and answers > 0 and 0 < margin < 1):
        raise ValueError("answers need lost, gained >= 0, lost + gained <= answers and a margin between 0 and 1")
    variance = restricted_variance(lost, gained, answers, margin)
    distance = answers * margin - (lost - gained)
    corrected = math.copysign(max(0.0, abs(distance) - 0.5), distance)
    half = (_NORMAL.inv_cdf(1 - alpha) * math.sqrt(answers * variance) + 0.5) / answers
    value = (gained - lost) / answers
    outcome = outcome_of(value - half, value + half, (-margin, math.inf))
    p = _NORMAL.cdf(-corrected / math.sqrt(answers * variance))
    needed = None
    if outcome == "undecided":
        enough = answers_needed(variance, (lost + gained) / answers, margin, alpha)
        needed = enough if enough > answers else None
    return Finding(outcome, value, value - half, value + half, p, alpha, answers, needed)


def restricted_variance(lost: float, gained: float, answers: int, margin: float) -> float:
    """q_lost + q_gained - Δ², of one answer's change, where a true loss of Δ makes the table most likely."""
    a = 2.0 * answers
    b = (lost + gained) + margin * (2 * answers + lost - gained)
    c = lost * margin * (1 + margin)
    q_lost = (b + math.sqrt(max(0.0, b * b - 4 * a * c))) / (2 * a)
    return 2 * q_lost - margin - margin * margin


def answers_needed(variance: float, changed: float, margin: float, alpha: float = 0.05, power: float = POWER) -> int:
    """Smallest n with nΔ - ½ ≥ z_{1-α} √(n variance) + z_{power} √(n changed): no true loss, as many changed."""
    reach = _NORMAL.inv_cdf(1 - alpha) * math.sqrt(variance) + _NORMAL.inv_cdf(power) * math.sqrt(changed)
    return math.ceil(((reach + math.sqrt(reach * reach + 2 * margin)) / (2 * margin)) ** 2)
