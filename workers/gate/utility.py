"""G4: what else was lost? Each kind of row by itself, item by item; a mean over kinds would hide damage.

Right answers before and after are counted in pairs with the test of evaluation/answers.py, and the share of likeliest
tokens, which moves before an answer breaks, has a t interval over people, or over items where all are one person's.
Both are held against the same margin. The same losses since the first version whose weights are kept have a budget of
their own: what every request may lose would add up. A budget that the base version had already spent cannot be mended
by another attempt, so a person decides.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from records.policy import Margin, Policy
from records.report import Check, Group, GroupName
from workers.evaluation.answers import answers_not_inferior
from workers.evaluation.equivalence import clustered_error
from workers.evaluation.quantiles import t_quantile
from workers.gate.columns import Case, accuracy, margin_check
from workers.gate.margins import FIRST_ALPHA, Bounds
from workers.item_scores import Read, by_item, column

_CLOSE = frozenset({GroupName.RETAIN_PARAPHRASES, GroupName.NEIGHBOURS})


def checks(case: Case) -> Iterator[Check]:
    for name, margin in margins(case.policy).items():
        group = case.groups.get(name)
        if group is not None:
            yield from (_loss(case, name, harm, margin, what) for what, harm in losses(group, margin, case.alpha))
            if name is GroupName.UTILITY:
                yield from _perplexity(case, group)
    yield from _since_first(case)


def margins(policy: Policy) -> Mapping[GroupName, Margin]:
    return {
        GroupName.RETAIN: policy.retain_drop,
        GroupName.RETAIN_PARAPHRASES: policy.neighbours_drop,
        GroupName.NEIGHBOURS: policy.neighbours_drop,
        GroupName.UTILITY: policy.utility_drop,
    }


def losses(group: Group, margin: Margin, alpha: float) -> Iterator[tuple[str, Bounds]]:
    """(what was lost, how much of it), shares of 1; the second only of two items or more. An item that is asked in
    several wordings counts once, with the share of them that was lost: a fact that is gone is gone in most of them.
    """
    lost = by_item(group.items, lambda row: float(row.before.exact and not row.after.exact))
    gained = by_item(group.items, lambda row: float(row.after.exact and not row.before.exact))
    items = len(lost)
    found = answers_not_inferior(math.fsum(lost), math.fsum(gained), items, _testable(margin), alpha)
    unharmed = answers_not_inferior(0, 0, items, _testable(margin), FIRST_ALPHA)
    reach = unharmed.value - unharmed.low
    yield "right answers", Bounds(-found.value, -found.high, -found.low, items, "items", reach=reach)
    error = mean_change(group, accuracy, alpha)
    if error is not None:
        yield "likeliest tokens", error


def mean_change(group: Group, read: Read, alpha: float) -> Bounds | None:
    """Mean loss of a score of which more is better; None of a single item. Items that are all one subject's are taken
    to be independent, as the count of right answers takes them: damage to them is damage.
    """
    before, after = column(group.items, "before", read), column(group.items, "after", read)
    alone = group.n_subjects < 2
    drawn = [row.item if alone else row.subject for row in group.items]
    if before is None or after is None or len(set(drawn)) < 2:
        return None
    changes = np.asarray(after) - np.asarray(before)
    mean, error, units = clustered_error(changes, drawn)
    half, reach = (t_quantile(1 - level, units - 1) * error for level in (alpha, FIRST_ALPHA))
    return Bounds(-mean, -mean - half, -mean + half, units, "items" if alone else "people", reach=reach)


def _testable(margin: Margin) -> float:
    """A margin of 0 or 1 can be judged by the count but has no test: the nearest that has."""
    return min(max(margin.accept, 1e-6), 1 - 1e-6)


def _loss(case: Case, name: GroupName, harm: Bounds, margin: Margin, what: str, since: str = "") -> Check:
    words = f"loss of {what}, {name}{since}: {harm.value:.3f}, at most {harm.high:.3f}"
    title = f"loss of {'exact answers' if what == 'right answers' else what}, {name}{since}"
    return margin_check(case, "G4", title, "utility", words, harm, margin)


def _perplexity(case: Case, group: Group) -> Iterator[Check]:
    change = mean_change(group, lambda one: -one.nll, case.alpha)
    if change is None:
        return
    far = change.value + (change.reach or 0.0)
    low, value, high, far = (math.exp(min(one, 50.0)) for one in (change.low, change.value, change.high, far))
    harm = Bounds(value, low, high, change.units, change.unit, harmless=1.0, reach=far - value)
    words = f"perplexity after / before, utility: {value:.3f}, at most {high:.3f}"
    yield margin_check(case, "G4", "perplexity, utility", "utility", words, harm, case.policy.utility_perplexity)


def _since_first(case: Case) -> Iterator[Check]:
    policy = case.policy
    for name, group in case.report.since_first.items():
        margin = policy.neighbours_drop if name in _CLOSE else policy.cumulative_drop
        now = case.groups.get(name)
        ours = {} if now is None else {what: harm.value for what, harm in losses(now, margin, case.alpha)}
        for what, harm in losses(group, margin, case.alpha):
            found = _loss(case, name, harm, margin, what, " since the first version")
            # The base version alone had lost more than is accepted, this job's loss of the same taken off.
            was_spent = what in ours and harm.value - max(ours[what], 0.0) > margin.accept
            yield _spent_before(found) if was_spent else found


def _spent_before(found: Check) -> Check:
    if found.outcome == "pass":
        return found
    words = f"{found.words}; most of it was lost before this request: consolidate from the first version"
    return found.model_copy(update={"outcome": "review", "side": "power", "words": words})
