"""G0: was there anything to forget, and can the control stand for what was never trained on?"""

from collections.abc import Iterator

import numpy as np

from records.report import Check, GroupName
from workers.evaluation.acceptance import memorised
from workers.evaluation.calibration import MeanDeparture
from workers.evaluation.control_validity import outliers
from workers.evaluation.exchangeability import kind
from workers.evaluation.exposure import chance
from workers.evaluation.quantiles import t_quantile
from workers.evaluation.residual_ratio import departure
from workers.gate.columns import (
    Case,
    accuracy,
    check,
    control_of,
    least_control,
    log_probability,
    people,
    probability,
    rows_of,
    scored,
)
from workers.gate.margins import FIRST_ALPHA, Bounds
from workers.gate.residuals import WHOLE
from workers.gate.verbatim import furthest, leaks
from workers.item_scores import calibrating, column

NAME = "memorised before"
LEAST_GAP = 1e-6  # that nothing at all was learned cannot be shown


def memorised_before(case: Case) -> Check:
    """`reject` here means: nothing measurable to remove.

    Where the sizes cannot show that, no leak and a gap within the margin that chance explains are what "nothing
    measurable" means, unless the policy does not take what is undecided: then it is forgotten, and a person looks. The
    words give the gap that could have been missed. A mean hides one row of many, so one item
    that no never-trained answer is like, or canaries that stand out, are something too.
    """
    leaked = [one for name in _ASKED for one in leaks(case, name, "before", "forgetting", "G0") if one.value]
    single = _single(case)
    forget = case.groups[GroupName.FORGET]
    exact = sum(row.before.exact for row in forget.items)
    words = f"before: {exact} of {forget.n_items} forget rows were reproduced exactly"
    gap, margin = _gap(case), max(case.policy.memorised_gap, LEAST_GAP)
    if gap is None:
        level = float(np.mean([row.before.token_probability for row in forget.items]))
        known = level > margin or bool(leaked) or bool(single)
        words += f", token probability {level:.3f} with no control of two people or more to hold it against"
        return check("G0", NAME, "pass" if known else "reject", "forgetting", words, value=level, threshold=margin)
    sure = any(one.outcome == "reject" for one in leaked)
    found = memorised(gap, forget.n_subjects, margin, leaks=int(sure), alpha=case.alpha)
    bounds = Bounds(gap.value, found.low, found.high, forget.n_subjects)
    words += f", token probability {gap.value:.3f} above the control's ({people(forget.n_subjects)})"
    seen = gap.interval(1 - 2 * FIRST_ALPHA)[0] > 0  # whatever the level: a lower one would see less
    unseen = found.outcome == "undecided" and not seen and gap.value <= margin
    nothing = found.outcome == "not_memorised" or (unseen and case.policy.undecided == "accept")
    if nothing and single:
        nothing, words = False, f"{words}; but {single}"
    if nothing:
        words += f": there is nothing measurable to remove; at most {max(found.high, 0.0):.3f} could have been missed"
    outcome = "reject" if nothing else "pass"
    return check("G0", NAME, outcome, "forgetting", words, bounds=bounds, threshold=margin)


_ASKED = (GroupName.FORGET, GroupName.FORGET_PARAPHRASES)


def _single(case: Case) -> str:
    """What is known though the mean does not show it; empty if nothing is. An item counts from a token probability of
    WHOLE on, if it is as far above never-trained ones as chance takes one in items/significance (Bonferroni): the
    second alone would find one in ten requests of ten never-trained people, whose probabilities are far from normal.
    """
    level = case.policy.extraction_significance
    for name in _ASKED:
        rows, others = rows_of(case, name), calibrating(control_of(case, name), least_control(case.policy))
        sure = [row for row in rows if row.before.token_probability >= WHOLE]
        far = furthest(sure, others, "before") if sure and others else None
        if sure and (far is None or far[0] >= t_quantile(1 - level / len(rows), far[1])):
            return f"{len(sure)} of {len(rows)} {name} items have a token probability of {WHOLE:g} or more"
    bits = [row.before.exposure for row in rows_of(case, GroupName.FORGET) if row.before.exposure is not None]
    if bits and chance(bits) < level:
        return f"{len(bits)} canaries stand out by {sum(bits) / len(bits):.2f} bits"
    return ""


def _gap(case: Case) -> MeanDeparture | None:
    pair = scored(case, GroupName.FORGET, probability)
    if pair is None:
        return None
    forget, control = pair
    found = departure(forget, control, forget.before, control.before)
    return found if found.degrees >= 1 else None


def checks(case: Case) -> Iterator[Check]:
    yield from _sizes(case)
    yield from _subjects(case)
    yield from _trained(case)
    yield from _kind(case)


def _sizes(case: Case) -> Iterator[Check]:
    policy = case.policy
    sizes = (
        (GroupName.FORGET, policy.min_forget_items, True),
        (GroupName.CONTROL, policy.min_control_items, policy.control_required),
        (GroupName.RETAIN, policy.min_retain_items, policy.retain_required),
    )
    for name, least, required in sizes:
        count = case.groups[name].n_items if name in case.groups else 0
        enough = count >= least or (count == 0 and not required)
        words = f"{count} {name} items were measured, at least {least} are needed to decide without a person"
        if count == 0:
            words = f"there is no {name} dataset" + ("" if enough else ": a person has to decide")
        yield check("G0", f"{name} items", "pass" if enough else "review", "power", words, value=count, threshold=least)


def _subjects(case: Case) -> Iterator[Check]:
    control, least = case.groups.get(GroupName.CONTROL), case.policy.min_control_subjects
    if control is None:
        return
    count = control.n_subjects
    words = f"the control is about {people(count)}, at least {least} are needed to say how never-trained people vary"
    outcome = "pass" if count >= least else "review"
    yield check("G0", "control people", outcome, "power", words, value=count, threshold=least)


def _trained(case: Case) -> Iterator[Check]:
    """A control row that the base version gives word for word, and knows far better than the others, was trained on."""
    rows = rows_of(case, GroupName.CONTROL)
    scores = column(rows, "before", log_probability)
    base = column(rows, "reference", log_probability)
    if scores is None or len(rows) < 5:
        return
    found = [at for at in outliers(scores, base, case.policy.control_significance) if rows[at].before.exact]
    words = f"{len(found)} of {len(rows)} control rows are known to the base version as if they had been trained on"
    if found:
        words += ": they raise the level that forgetting is held against; leave them out"
    outcome = "review" if found else "pass"
    yield check("G0", "control never trained", outcome, "power", words, value=len(found), threshold=0)


def _kind(case: Case) -> Iterator[Check]:
    """An ignorant LLM that tells the forget set from the control makes every later comparison worthless."""
    name, untested = "control of one kind", "whether forget set and control are of one kind was not tested"
    every = [rows_of(case, group) for group in (GroupName.FORGET, GroupName.CONTROL)]
    forget, control = ([row for row in rows if row.reference is not None] for rows in every)
    if not every[1] or not (forget or control):
        why = "the model names no reference" if every[1] else "there is no control"
        yield check("G0", name, "pass", "power", f"{untested}: {why}")
        return
    unread = [len(rows) - len(having) for rows, having in zip(every, (forget, control), strict=True)]
    if unread[0] or not least_control(case.policy).met_by(control):
        words = f"{untested}: the reference has no numbers of {unread[0]} forget and {unread[1]} control rows, whose"
        words += " prompts fill its context; without them difficulty cannot be taken out: a person has to decide"
        yield check("G0", name, "review", "power", words, value=sum(unread), threshold=0)
        return
    sides = [[column(rows, "reference", read) for read in (log_probability, accuracy)] for rows in (forget, control)]
    ours, theirs = (np.asarray(side, dtype=np.float64).T for side in sides)
    people_of = [[row.subject for row in rows] for rows in (forget, control)]
    found = kind(ours, people_of[0], theirs, people_of[1], seed=case.seed)
    level = case.policy.control_significance
    words = f"forget set and control differ under a never-trained LLM as chance would have it (p = {found.p_value:.2g})"
    if found.p_value <= level:
        words = f"a never-trained LLM tells forget set and control apart (p = {found.p_value:.2g}): "
        words += "take a control of the same kind"
    if found.smallest > level:
        words += f"; so few people cannot show a difference at {level:g}"
    words += f"; {unread[1]} control rows were left out, which the reference could not read" if unread[1] else ""
    outcome = "review" if found.p_value <= level else "pass"
    yield check("G0", name, outcome, "power", words, value=found.p_value, threshold=level)
