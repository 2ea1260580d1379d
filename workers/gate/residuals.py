"""G1 and G2: how much of what training left is still there, on average? In the row's own words and in sealed ones.

Each residual is 1 untouched and 0 as if never trained (evaluation/residual_ratio.py), calibrated by the never-trained
reference where the report has one. Its upper bound decides whether enough is gone. A mean hides one row of many, so
items are also taken one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from records.policy import Margin, Policy
from records.report import Check, GroupName, ItemNumbers, Side
from workers.evaluation.calibration import fit_reference
from workers.evaluation.quantiles import t_quantile
from workers.evaluation.residual_ratio import Scored, departure, residual_ratio
from workers.evaluation.variance_components import Floats
from workers.gate.columns import Case, accuracy, check, margin_check, probability, scored, strength
from workers.gate.margins import FIRST_ALPHA, Bounds
from workers.item_scores import Read

WHOLE = 0.8


@dataclass(frozen=True)
class Criterion:
    gate: str
    group: GroupName
    name: str
    words: str
    read: Read
    margin: Margin
    side: Side


def checks(case: Case) -> Iterator[Check]:
    for one in criteria(case.policy):
        if one.group in case.groups:
            yield residual(case, one)
    yield from known_items(case, "G1", GroupName.FORGET, "forgetting")
    yield from known_items(case, "G2", GroupName.FORGET_PARAPHRASES, "paraphrases")


def criteria(policy: Policy) -> Iterator[Criterion]:
    forget, others = GroupName.FORGET, GroupName.FORGET_PARAPHRASES
    beginning = partial(Criterion, words="what an answer's beginning gives away", read=strength)
    tokens = partial(Criterion, words="tokens of the answer that are the likeliest", read=accuracy)
    likely = partial(Criterion, words="probability of the answer's tokens", read=probability)
    # Of the items whose paraphrases are sealed: the reader takes it from a paraphrase that was not trained on.
    preferred = partial(Criterion, words="preference for the right answer over wrong ones", read=_truth)
    yield beginning("G1", forget, "extraction_strength", margin=policy.extraction_strength, side="forgetting")
    yield tokens("G1", forget, "exact_memorisation", margin=policy.exact_memorisation, side="forgetting")
    yield likely("G1", forget, "token_probability", margin=policy.token_probability, side="forgetting")
    yield beginning("G2", others, "extraction_strength", margin=policy.extraction_strength, side="paraphrases")
    yield likely("G2", others, "token_probability", margin=policy.token_probability, side="paraphrases")
    yield preferred("G2", forget, "truth_share", margin=policy.truth_share, side="paraphrases")


def residual(case: Case, one: Criterion, label: str = "") -> Check:
    """Passed without a number where there is none to take: the words say why."""
    name = f"{one.name} residual, {label or one.group}"
    nothing = partial(check, one.gate, name, "pass", "power", threshold=one.margin.accept)
    pair = scored(case, one.group, one.read)
    if pair is None:
        return nothing(f"{name}: not measured on both the forget set and a control of two people or more")
    bounds = residual_bounds(case, pair)
    if bounds is None:
        return nothing(f"{name}: not tested: before, the forget set was not measurably better known than the control")
    words = f"{name} ({one.words}): {bounds.value:.3f} of what there was is left, at most {bounds.high:.3f}"
    return margin_check(case, one.gate, name, one.side, words, bounds, one.margin)


def residual_bounds(case: Case, pair: tuple[Scored, Scored]) -> Bounds | None:
    """ρ with one-sided bounds at the attempt's level; None if there was no gap to speak of."""
    forget, control = pair
    gap = departure(forget, control, forget.before, control.before)
    if gap.degrees < 1 or gap.value <= max(2 * gap.error, 1e-9):
        return None
    found = residual_ratio(forget, control, seed=case.seed, confidence=1 - 2 * case.alpha)
    if found is None:
        return None
    inside = found.interval
    harmless = departure(forget, control, forget.after, control.after)
    reach = t_quantile(1 - FIRST_ALPHA, harmless.degrees) * harmless.error / abs(gap.value)
    return Bounds(inside.value, inside.low, inside.high, min(forget.units, control.units), reach=reach)


def known_items(case: Case, gate: str, name: GroupName, side: Side, label: str = "") -> Iterator[Check]:
    """A mean hides one row of many. Known is an item of which WHOLE or more is left, and whose probability lies farther
    out than a never-trained item of a new person comes once in items/significance (Bonferroni). The second alone
    would not do: probabilities are far from normal, and one never-trained answer in a hundred is half guessed.
    """
    pair = scored(case, name, probability)
    if pair is None:
        return
    left, standard, degrees = item_departures(*pair)
    if degrees < 1:
        return
    limit = t_quantile(1 - case.policy.extraction_significance / len(left), degrees)
    known = int(((left >= WHOLE) & (standard >= limit)).sum())
    label = label or name
    words = (
        f"{label}: {known} of {len(left)} items taken one by one are still known; the most has {left.max():.3f} left"
    )
    yield check(gate, f"items known, {label}", "reject" if known else "pass", side, words, value=known, threshold=0)


def item_departures(forget: Scored, control: Scored) -> tuple[Floats, Floats, int]:
    """(share left of each item's own departure, departure in standard deviations of a never-trained item, degrees)."""
    was = fit_reference(control.before, control.base, control.subjects)
    fitted = fit_reference(control.after, control.base, control.subjects)
    items = len(forget.after)
    departures = forget.after - fitted.expected(forget.base, items)
    there = forget.before - was.expected(forget.base, items)
    deviations = np.sqrt(fitted.prediction_variance(forget.base, items))
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(there > 0, departures / there, 0.0)
        standard = np.where(departures > 0, departures / deviations, 0.0)
    return left, standard, fitted.degrees


def _truth(one: ItemNumbers) -> float | None:
    return one.truth_share
