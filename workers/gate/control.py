"""G0: was there anything to forget, and can the control stand for what was never trained on?"""

from collections.abc import Iterator

import numpy as np

from records.report import Check, GroupName
from workers.evaluation.acceptance import memorised
from workers.evaluation.calibration import MeanDeparture
from workers.evaluation.control_validity import outliers
from workers.evaluation.exchangeability import kind
from workers.evaluation.residual_ratio import departure
from workers.gate.columns import Case, accuracy, check, log_probability, people, probability, rows_of, scored
from workers.gate.margins import Bounds
from workers.gate.verbatim import leaks
from workers.item_scores import column

NAME = "memorised before"


def memorised_before(case: Case) -> Check:
    """`reject` here means: nothing measurable to remove.

    Where the sizes cannot show that, no leak and a gap within the margin that chance explains are what "nothing
    measurable" means; the words give the gap that could have been missed.
    """
    leaked = [one for name in _ASKED for one in leaks(case, name, "before", "forgetting", "G0") if one.value]
    forget = case.groups[GroupName.FORGET]
    exact = sum(row.before.exact for row in forget.items)
    words = f"before: {exact} of {forget.n_items} forget rows were reproduced exactly"
    gap, margin = _gap(case), case.policy.memorised_gap
    if gap is None:
        level = float(np.mean([row.before.token_probability for row in forget.items]))
        known = level > margin or bool(leaked)
        words += f", token probability {level:.3f} with no control of two people or more to hold it against"
        return check("G0", NAME, "pass" if known else "reject", "forgetting", words, value=level, threshold=margin)
    sure = any(one.outcome == "reject" for one in leaked)
    found = memorised(gap, forget.n_subjects, margin, leaks=int(sure), alpha=case.alpha)
    bounds = Bounds(gap.value, found.low, found.high, forget.n_subjects)
    words += f", token probability {gap.value:.3f} above the control's ({people(forget.n_subjects)})"
    nothing = found.outcome == "not_memorised" or (found.outcome == "undecided" and gap.value <= margin)
    if nothing:
        words += f": there is nothing measurable to remove; at most {max(found.high, 0.0):.3f} could have been missed"
    outcome = "reject" if nothing else "pass"
    return check("G0", NAME, outcome, "forgetting", words, bounds=bounds, threshold=margin)


_ASKED = (GroupName.FORGET, GroupName.FORGET_PARAPHRASES)


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
    forget, control = rows_of(case, GroupName.FORGET), rows_of(case, GroupName.CONTROL)
    sides = [[column(rows, "reference", read) for read in (log_probability, accuracy)] for rows in (forget, control)]
    if not forget or not control or any(one is None for side in sides for one in side):
        words = "whether forget set and control are of one kind was not tested: the model names no reference"
        yield check("G0", "control of one kind", "pass", "power", words)
        return
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
    outcome = "review" if found.p_value <= level else "pass"
    yield check("G0", "control of one kind", outcome, "power", words, value=found.p_value, threshold=level)
