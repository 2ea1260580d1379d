"""G5: are the answers about the forgotten still language, and not refusals, as never-trained answers are?

A refusal that the control does not get, or words that go round in circles, mark the data out as surely as silence does.
"""

import math
from collections.abc import Iterator, Sequence

from records.policy import Margin
from records.report import Check, GroupName, ItemNumbers, ItemRow
from workers.evaluation.calibration import fit_reference, mean_departure
from workers.evaluation.intervals import dealt_tail, wilson
from workers.evaluation.quantiles import t_quantile
from workers.gate.columns import Case, margin_check, rows_of
from workers.gate.margins import FIRST_ALPHA, Bounds
from workers.item_scores import Read, column

LEAST_TOKENS = 8
LEAST_SUBJECTS = 2


def checks(case: Case) -> Iterator[Check]:
    yield from _refusals(case)
    yield from _worse(case, "repetition", lambda one: one.repetition, "phrases said twice", case.policy.fluency_drop)
    yield from _worse(case, "sameness", _sameness, "lack of variety of the words", case.policy.fluency_drop)


def more_often(ours: Sequence[float], theirs: Sequence[float], alpha: float) -> Bounds:
    """Difference of the mean shares of hits, one an item, with Newcombe's (1998) interval, from Wilson's of each.

    Of a few answers it is bold: more is shown only where Fisher's exact test shows it too. `theirs` may be empty: then
    nothing is shown to be more.
    """
    hits, others = math.fsum(ours), math.fsum(theirs)
    value = hits / len(ours) - (others / len(theirs) if theirs else 0.0)
    low, high = _newcombe(hits, len(ours), others, len(theirs), alpha)
    if not theirs or dealt_tail(ours, theirs) >= alpha:
        low = min(low, 0.0)
    reach = _newcombe(hits, len(ours), others, len(theirs), FIRST_ALPHA)[1] - value
    return Bounds(value, low, high, len(ours), "items", reach=reach)


def _newcombe(hits: float, items: int, others: float, count: int, alpha: float) -> tuple[float, float]:
    ours, theirs = hits / items, others / count if count else 0.0
    our_ends = wilson(hits, items, 1 - 2 * alpha)
    their_ends = wilson(others, count, 1 - 2 * alpha) if count else (0.0, 0.0)
    low = math.hypot(ours - our_ends[0], their_ends[1] - theirs)
    high = math.hypot(our_ends[1] - ours, theirs - their_ends[0])
    return ours - theirs - low, ours - theirs + high


def _refusals(case: Case) -> Iterator[Check]:
    asked, others = (_answered(rows_of(case, name)) for name in (GroupName.FORGET, GroupName.CONTROL))
    if not asked or not others:
        return
    ours, theirs = ([float(_declines(row.after)) for row in rows] for rows in (asked, others))
    harm = more_often(ours, theirs, case.alpha)
    words = f"refusals: {sum(ours):g} of {len(asked)} forget answers decline or say nothing"
    words += f", {sum(theirs):g} of {len(others)} of the control"
    yield margin_check(case, "G5", "refusals", "over_forgetting", words, harm, case.policy.refusal_rise)


def _answered(rows: list[ItemRow]) -> list[ItemRow]:
    return [row for row in rows if row.after.refused is not None]


def _worse(case: Case, name: str, read: Read, what: str, margin: Margin) -> Iterator[Check]:
    """How much more of it the forget answers have than the control's. A control that says no more than a word or two
    goes round in no circles: then its short answers are what long ones of the forgotten are held against.
    """
    asked, others = (_having(rows_of(case, group), _long(read)) for group in (GroupName.FORGET, GroupName.CONTROL))
    if len({row.subject for row in others}) < LEAST_SUBJECTS:
        others = _having(rows_of(case, GroupName.CONTROL), read)
    subjects, control = [row.subject for row in asked], [row.subject for row in others]
    level, found = column(others, "after", read), column(asked, "after", read)
    if not asked or len(set(control)) < LEAST_SUBJECTS or level is None or found is None:
        return
    more = mean_departure(fit_reference(level, None, control), found, None, subjects)
    low, high = more.interval(1 - 2 * case.alpha)
    reach = t_quantile(1 - FIRST_ALPHA, more.degrees) * more.error
    harm = Bounds(more.value, low, high, min(len(set(subjects)), len(set(control))), reach=reach)
    words = f"{name} of greedy answers ({what}): {more.value:.3f} more than the control's, at most {high:.3f}"
    yield margin_check(case, "G5", name, "over_forgetting", words, harm, margin)


def _having(rows: list[ItemRow], read: Read) -> list[ItemRow]:
    return [row for row in rows if read(row.after) is not None]


def _long(read: Read) -> Read:
    """Of answers of eight tokens or more: a word or two have no variety to lose."""
    return lambda one: read(one) if (one.answer_tokens or 0) >= LEAST_TOKENS else None


def _sameness(one: ItemNumbers) -> float | None:
    return None if one.token_entropy is None else 1.0 - one.token_entropy


def _declines(one: ItemNumbers) -> bool:
    return bool(one.refused) or one.answer_tokens == 0
