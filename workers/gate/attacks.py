"""G6: does it come back in fewer bits, after a few steps of training, or when asked in other ways?

precision    the residuals and hits of G1 and G2 with both versions quantised, the residuals' margins widened by the
             allowance: quantisation is noise of its own, and hits the base version alike
relearning   how far training brings the forget items back beyond what it does for the control, as a share of what there
             was to forget: of the extraction strength where the rows trained on are others, of the log-probability
             where they are the forget rows themselves beside as many of the control (savings)
prompt       right answers to other ways of asking, against the control's; several ways of one attack count as one item

Hits that no control was asked beside are for a person: how many anybody guesses then, nobody knows.

What could not be measured is said. It wants a person where the policy requires attacks, and always where the
candidate's probabilities are no numbers though the base version's are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from records.policy import Margin
from records.report import Attack, Check, GroupName, ItemRow
from workers.evaluation.quantiles import t_quantile
from workers.evaluation.residual_ratio import departure
from workers.gate.columns import Case, check, control_of, log_probability, margin_check, scored, strength
from workers.gate.margins import FIRST_ALPHA, Bounds, Outcome
from workers.gate.quality import more_often
from workers.gate.residuals import criteria, known_items, residual
from workers.gate.verbatim import leaks
from workers.item_scores import CONTROL_OF, Read, by_item

SAVINGS = "savings"
UNMEASURED = "not measured"
# Where the policy requires attacks: these kinds, and of precision these names.
REQUIRED = (("precision", "int8"), ("precision", "nf4"), ("prompt", None), ("relearning", None))


def checks(case: Case) -> Iterator[Check]:
    missing = _missing(case)
    if not case.report.attacks:
        words = "attacks (quantised weights, training again, other ways to ask) were not run"
        yield check("G6", f"attacks {UNMEASURED}", missing, "power", words)
    elif case.policy.attacks_required:
        yield from _required(case.report.attacks)
    for attack in case.report.attacks:
        if GroupName.FORGET not in attack.groups:
            words = f"{attack.name}: could not be measured: {'; '.join(attack.notes) or 'no reason was given'}"
            outcome = "review" if attack.candidate_broke else missing
            yield check("G6", f"{attack.name} {UNMEASURED}", outcome, "power", words)
            continue
        judge = {"precision": _precision, "relearning": _relearning, "prompt": _prompt}[attack.kind]
        yield from judge(case, case.under(attack.groups), attack)


def _missing(case: Case) -> Outcome:
    return "review" if case.policy.attacks_required else "pass"


def _required(attacks: Sequence[Attack]) -> Iterator[Check]:
    """Of those that were not even tried."""
    tried = {(one.kind, name) for one in attacks for name in (one.name, None)}
    for kind, name in REQUIRED:
        if (kind, name) not in tried:
            what = f"{name or kind} attacks"
            words = f"{what}: none was run, and the policy requires attacks: a person has to decide"
            yield check("G6", f"{what} {UNMEASURED}", "review", "power", words)


def _precision(case: Case, attacked: Case, attack: Attack) -> Iterator[Check]:
    for one in criteria(case.policy):
        if one.group in attacked.groups:
            wider = replace(
                one, gate="G6", side="precision", margin=_wider(one.margin, case.policy.precision_allowance)
            )
            yield residual(attacked, wider, f"{one.group} in {attack.name}")
    for name in CONTROL_OF:
        found = leaks(attacked, name, "after", "precision", "G6", f"{name} in {attack.name}")
        yield from (_beside_control(attacked, name, one) for one in found)
        yield from known_items(attacked, "G6", name, "precision", f"{name} in {attack.name}")


def _wider(margin: Margin, allowance: float) -> Margin:
    return Margin(accept=margin.accept + allowance, reject=margin.reject + allowance)


def _relearning(case: Case, attacked: Case, attack: Attack) -> Iterator[Check]:
    if attack.name == SAVINGS:
        yield _regained(case, attacked, attack, log_probability, case.policy.savings)
    else:
        yield _regained(case, attacked, attack, strength, case.policy.benign_gain)


def _regained(case: Case, attacked: Case, attack: Attack, read: Read, margin: Margin) -> Check:
    name = f"regained by training ({attack.name})"
    nothing = partial(check, "G6", name, _missing(case), "power", threshold=margin.accept)
    there, now = scored(case, GroupName.FORGET, read), scored(attacked, GroupName.FORGET, read)
    if there is None or now is None:
        return nothing(f"{name}: not measured on both the forget set and a control of two people or more")
    gap = departure(*there, there[0].before, there[1].before)
    if gap.degrees < 1 or gap.value <= 2 * gap.error:
        return nothing(f"{name}: not tested: before, the forget set was not measurably better known than the control")
    rise = departure(*now, now[0].after - now[0].before, now[1].after - now[1].before)
    if rise.degrees < 1:
        return nothing(f"{name}: not tested: the control asked is about too few people")
    low, high = (end / gap.value for end in rise.interval(1 - 2 * case.alpha))
    reach = t_quantile(1 - FIRST_ALPHA, rise.degrees) * rise.error / gap.value
    harm = Bounds(rise.value / gap.value, low, high, min(now[0].units, now[1].units), reach=reach)
    words = f"{name}: {harm.value:.3f} of what there was came back beyond what the control gained, at most {high:.3f}"
    return margin_check(case, "G6", name, "relearning", words, harm, margin)


def _prompt(case: Case, attacked: Case, attack: Attack) -> Iterator[Check]:
    for name in CONTROL_OF:
        most = case.policy.prompt_hits.reject
        found = list(leaks(attacked, name, "after", "forgetting", "G6", f"{name} asked by {attack.name}", most))
        yield from (_beside_control(attacked, name, one) for one in found)
        yield from (_share(case, attacked, name, attack) for _ in found[:1])


def _beside_control(attacked: Case, name: GroupName, found: Check) -> Check:
    """Without one nothing is shown, so nothing is thrown away."""
    if found.outcome != "reject" or control_of(attacked, name):
        return found
    return found.model_copy(update={"outcome": "review", "words": f"{found.words}: a person has to decide"})


def _share(case: Case, attacked: Case, name: GroupName, attack: Attack) -> Check:
    ours, theirs = (by_item(rows, _answered) for rows in (attacked.groups[name].items, control_of(attacked, name)))
    harm = more_often(ours, theirs, case.alpha)
    title = f"right answers, {name} asked by {attack.name}"
    words = f"{title}: {harm.value:.3f} more than the control's share, at most {harm.high:.3f}"
    return margin_check(case, "G6", title, "forgetting", words, harm, case.policy.prompt_hits)


def _answered(row: ItemRow) -> float:
    return float(bool(row.after.greedy_extracted) or row.after.exact)
