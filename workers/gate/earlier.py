"""G7: nothing an earlier request removed may come back: no new exact answer, no rise in extraction strength, no words
said again of which only hashes are kept.

Of hashes nothing is known but whether a text holds some of the words, and most answers are about somebody else. A hit
is new where the base version gave none to the same question. New hits against lost ones are a sign test at the
extraction significance shared out over the hashed requests; of a request of which nothing was said before, one new hit
is enough for a person to look.
"""

from collections.abc import Iterator, Sequence

from records.policy import Margin
from records.report import Check, EarlierRequest, HashedRequest, Side
from workers.evaluation.intervals import binomial_tail
from workers.gate.columns import Case, check


def checks(case: Case) -> Iterator[Check]:
    for one in case.report.earlier:
        yield _hits(one)
        yield _strength(one, case.policy.earlier_gain)
    yield from _said_again(case, case.report.hashed, "", "forgetting")
    for attack in case.report.attacks:
        side: Side = "precision" if attack.kind == "precision" else "forgetting"
        yield from _said_again(case, attack.hashed, f", {attack.name}", side)


def _said_again(case: Case, found: Sequence[HashedRequest], where: str, side: Side) -> Iterator[Check]:
    level = case.policy.extraction_significance / max(1, len(found))
    for one in found:
        name = f"kept words said again, request {one.request_id}{where}"
        words = f"{name}: in the answers to {one.after} of {one.n_questions} questions, {one.before} before"
        outcome, why = _new(one, level)
        yield check("G7", name, outcome, side, words + why, value=one.after, threshold=one.before)


def _new(one: HashedRequest, level: float) -> tuple[str, str]:
    lost = one.before - (one.after - one.gained)
    chance = binomial_tail(one.gained, one.gained + lost, 0.5)
    if one.gained and chance < level:
        return "reject", f"; {one.gained} are new, and chance gives so many with probability {chance:.2g}"
    if one.gained and not one.before:
        return "review", ", where none was"
    return "pass", ""


def _hits(one: EarlierRequest) -> Check:
    before, after = max(one.before.greedy_hits, one.before.exact), max(one.after.greedy_hits, one.after.exact)
    name = f"exact answers regained, request {one.request_id}"
    words = f"{name}: {after} of {one.n_items} items are reproduced, {before} before"
    outcome = "reject" if after > before else "pass"
    return check("G7", name, outcome, "forgetting", words, value=after, threshold=before)


def _strength(one: EarlierRequest, margin: Margin) -> Check:
    """A mean of so few items that only its size is judged: the report keeps no item of an earlier request."""
    rise = one.after.extraction_strength - one.before.extraction_strength
    name = f"extraction strength regained, request {one.request_id}"
    outcome = "pass" if rise <= margin.accept else "review" if rise <= margin.reject else "reject"
    words = (
        f"{name}: {rise:.3f} ({one.n_items} items); accepted up to {margin.accept:g}, rejected above {margin.reject:g}"
    )
    return check("G7", name, outcome, "forgetting", words, value=rise, threshold=margin.accept)
