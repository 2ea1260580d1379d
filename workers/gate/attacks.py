"""G6: does it come back in fewer bits, after a few steps of training, or when asked in other ways?

precision    the residuals and hits of G1 and G2 with both versions quantised, the residuals' margins widened by the
             allowance: quantisation is noise of its own, and hits the base version alike
relearning   how far training brings the forget items back beyond what it does for the control, as a share of what there
             was to forget: of the extraction strength where the rows trained on are others, of the log-probability
             where they are the forget rows themselves beside as many of the control (savings)
prompt       right answers to other ways of asking, against the control's
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from records.policy import Margin
from records.report import Attack, Check, GroupName
from workers.evaluation.residual_ratio import departure
from workers.gate.columns import Case, check, log_probability, margin_check, scored, strength
from workers.gate.margins import Bounds
from workers.gate.quality import more_often
from workers.gate.residuals import criteria, residual
from workers.gate.verbatim import leaks
from workers.item_scores import CONTROL_OF, Read

SAVINGS = "savings"
NAME = "attacks"


def checks(case: Case) -> Iterator[Check]:
    missing = "review" if case.policy.attacks_required else "pass"
    if not case.report.attacks:
        words = "attacks (quantised weights, training again, other ways to ask) were not run"
        yield check("G6", NAME, missing, "power", words)
    for attack in case.report.attacks:
        if GroupName.FORGET not in attack.groups:
            words = f"{attack.name}: could not be measured: {'; '.join(attack.notes) or 'no reason was given'}"
            yield check("G6", attack.name, missing, "power", words)
            continue
        judge = {"precision": _precision, "relearning": _relearning, "prompt": _prompt}[attack.kind]
        yield from judge(case, case.under(attack.groups), attack)


def _precision(case: Case, attacked: Case, attack: Attack) -> Iterator[Check]:
    for one in criteria(case.policy):
        if one.group in attacked.groups:
            wider = replace(
                one, gate="G6", side="precision", margin=_wider(one.margin, case.policy.precision_allowance)
            )
            yield residual(attacked, wider, f"{one.group} in {attack.name}")
    for name in CONTROL_OF:
        yield from leaks(attacked, name, "after", "precision", "G6", f"{name} in {attack.name}")


def _wider(margin: Margin, allowance: float) -> Margin:
    return Margin(accept=margin.accept + allowance, reject=margin.reject + allowance)


def _relearning(case: Case, attacked: Case, attack: Attack) -> Iterator[Check]:
    if attack.name == SAVINGS:
        yield _regained(case, attacked, attack, log_probability, case.policy.savings)
    else:
        yield _regained(case, attacked, attack, strength, case.policy.benign_gain)


def _regained(case: Case, attacked: Case, attack: Attack, read: Read, margin: Margin) -> Check:
    name = f"regained by training ({attack.name})"
    nothing = partial(check, "G6", name, "pass", "power", threshold=margin.accept)
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
    harm = Bounds(rise.value / gap.value, low, high, min(now[0].units, now[1].units))
    words = f"{name}: {harm.value:.3f} of what there was came back beyond what the control gained, at most {high:.3f}"
    return margin_check(case, "G6", name, "relearning", words, harm, margin)


def _prompt(case: Case, attacked: Case, attack: Attack) -> Iterator[Check]:
    for name in CONTROL_OF:
        most = case.policy.prompt_hits.reject
        found = list(leaks(attacked, name, "after", "forgetting", "G6", f"{name} asked by {attack.name}", most))
        yield from found
        yield from (_share(case, attacked, name, attack) for _ in found[:1])


def _share(case: Case, attacked: Case, name: GroupName, attack: Attack) -> Check:
    control = CONTROL_OF[name] if CONTROL_OF[name] in attacked.groups else GroupName.CONTROL
    harm = more_often(*_answered(attacked, name), *_answered(attacked, control), case.alpha)
    title = f"right answers, {name} asked by {attack.name}"
    words = f"{title}: {harm.value:.3f} more than the control's share, at most {harm.high:.3f}"
    return margin_check(case, "G6", title, "forgetting", words, harm, case.policy.prompt_hits)


def _answered(attacked: Case, name: GroupName) -> tuple[int, int]:
    group = attacked.groups.get(name)
    if group is None:
        return 0, 0
    return sum(bool(row.after.greedy_extracted) or row.after.exact for row in group.items), group.n_items
