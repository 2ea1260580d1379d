"""What would an LLM retrained without the forget set say about it? (Yao et al., ACL 2024, arXiv:2402.15159)

Nobody retrains to find out. Unseen rows of the same kind, the control, stand in: what the LLM before unlearning makes
of those is what a retrained one would make of the forget set. That gives a target, from both sides:

    ACC   mean over items of the share of an item's tokens that are the argmax
    PPL   exp(mean over items of an item's mean NLL): items weigh alike, however long
    AUC   chance that a forget item surprises the LLM less than a control item does; 0.5 if nobody could tell

Below the target's ACC or AUC, or above its PPL, too much was forgotten: that too tells the items apart. The paper's
code replaces an AUC below 0.5 by 1 - AUC, which hides it; this does not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workers.evaluation.membership import auc
from workers.evaluation.scoring import Score


@dataclass(frozen=True, slots=True)
class Fluency:
    """ACC, and the mean over items of their mean NLL, in nats."""

    accuracy: float
    nll: float

    @property
    def perplexity(self) -> float:
        """Infinite where a float cannot hold it."""
        return math.exp(self.nll) if self.nll < 700.0 else math.inf


@dataclass(frozen=True, slots=True)
class RetrainingGap:
    """`target` is the control before unlearning. Differences are forget set after unlearning minus target, so a
    retrained LLM has about 0, 0 and 0.5; perplexities are compared by their logarithms, in nats.
    """

    target: Fluency
    before: Fluency
    after: Fluency
    accuracy_gap: float
    log_perplexity_gap: float
    membership_auc: float

    @property
    def closed(self) -> float:
        """Share of the way from before to target in log perplexity: 1 at the target, above 1 past it, NaN if there
        was no way to go.
        """
        way = self.target.nll - self.before.nll
        return math.nan if way == 0.0 else 1.0 + self.log_perplexity_gap / way


def fluency(scores: Sequence[Score]) -> Fluency:
    """ACC and PPL of at least one item."""
    if not scores:
        raise ValueError("accuracy and perplexity need at least one item")
    return Fluency(
        accuracy=math.fsum(one.token_accuracy for one in scores) / len(scores),
        nll=math.fsum(one.nll for one in scores) / len(scores),
    )


def membership_auc(members: Sequence[Score], non_members: Sequence[Score]) -> float:
    """P(NLL of a member < NLL of a non-member), ties counting half. O(n log n)."""
    if not members or not non_members:
        raise ValueError("telling members from non-members needs at least one of each")
    return auc([one.nll for one in members], [one.nll for one in non_members])


def retraining_gap(
    forget_before: Sequence[Score],
    forget_after: Sequence[Score],
    control_before: Sequence[Score],
    control_after: Sequence[Score],
) -> RetrainingGap:
    """How far the forget set is from where retraining would have left it. The AUC compares both after unlearning."""
    target, before, after = fluency(control_before), fluency(forget_before), fluency(forget_after)
    return RetrainingGap(
        target=target,
        before=before,
        after=after,
        accuracy_gap=after.accuracy - target.accuracy,
        log_perplexity_gap=after.nll - target.nll,
        membership_auc=membership_auc(forget_after, control_after),
    )
