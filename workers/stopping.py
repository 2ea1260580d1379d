"""When is an item forgotten? Each is judged on its own, since a mean hides the few that are still whole.

An item is done when the LLM neither reproduces it greedily nor gives its tokens more probability than a never-trained
answer gets: the control's mean, or what is estimated of this very answer (`workers/never_trained.py`). An answer that
anybody would give may be reproduced. An item may become active again: later steps for other items can bring it back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from workers.evaluation.scoring import Score

# Used without a control dataset: about what small and large LLMs give an answer they have never seen.
ASSUMED_LEVEL = 0.1
# From here on an LLM that never met an answer most likely gives it all the same: a function word, yes or no.
LIKELY_LEVEL = 0.5


@dataclass(frozen=True, slots=True)
class StopRule:
    """`level` is the control's mean token probability before unlearning. Done at `ratio` times that, or times the
    item's own level where that is known.
    """

    level: float
    ratio: float

    def still_known(self, score: Score, own_level: float | None = None) -> bool:
        """Being exact alone makes no item known whose own level is likely: who never met the answer gives it too.

        Its probability decides then, and where level·ratio is 1 or more no probability is above it: an answer that
        everybody would give has nothing to forget.
        """
        level = self.level if own_level is None else own_level
        tells = own_level is None or own_level < LIKELY_LEVEL
        return (score.exact and tells) or score.token_probability > level * self.ratio


def stop_rule(control_level: float | None, ratio: float) -> StopRule:
    """A control level of 0 would never be reached; a millionth is as good."""
    return StopRule(ASSUMED_LEVEL if control_level is None else max(control_level, 1e-6), ratio)


def active_items(
    rule: StopRule, scores: Sequence[Score], item_of_score: Sequence[int], own_levels: Sequence[float | None]
) -> list[int]:
    """Items, ascending, of which at least one score (the row's own or a dev phrasing's) is still known."""
    asked = zip(scores, item_of_score, own_levels, strict=True)
    return sorted({item for score, item, own in asked if rule.still_known(score, own)})
