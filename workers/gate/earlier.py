"""G7: nothing an earlier request removed may come back: no new exact answer, no rise in extraction strength, no words
said again of which only hashes are kept.

Rises are held against the base version, which is what this job did, and against the request's own time, which is what
all jobs since did together; their mean over all earlier requests has bounds. What had come back before this job cannot
be held against its candidate, and is not let through either: a person decides.

Of hashes nothing is known but whether a text holds some of the words, and most answers are about somebody else. A hit
is new where the base version gave none to the same question. New hits against lost ones are a sign test at the
extraction significance shared out over the hashed requests; of a request of which nothing was said before, one new hit
is enough for a person to look.
"""

from collections.abc import Iterator, Sequence

from records.policy import Margin
from records.report import Check, EarlierNumbers, EarlierRequest, HashedRequest, Side
from workers.evaluation.intervals import binomial_tail, exact_tail
from workers.evaluation.sequence_matrix import backward_score
from workers.gate.columns import Case, check, margin_check
from workers.gate.margins import FIRST_ALPHA, Bounds, Outcome

_BEFORE_US = "; it had come back before this request: consolidate from the first version"


def checks(case: Case) -> Iterator[Check]:
    for one in case.report.earlier:
        yield _hits(one)
        if one.before.sampled_items or one.after.sampled_items:
            yield _sampled(one, case.policy.extraction_significance)
        yield _strength(one, case.policy.earlier_gain)
        if one.own_time is not None:
            yield _strength_since(one, one.own_time.numbers, case.policy.earlier_gain)
    yield from _together(case)
    yield from _said_again(case, case.report.hashed, "", "forgetting")
    for attack in case.report.attacks:
        side: Side = "precision" if attack.kind == "precision" else "forgetting"
        yield from _said_again(case, attack.hashed, f", {attack.name}", side)


def _hits(one: EarlierRequest) -> Check:
    before, after = _exact(one.before), _exact(one.after)
    own = before if one.own_time is None else _exact(one.own_time.numbers)
    name = f"exact answers regained, request {one.request_id}"
    words = f"{name}: {after} of {one.n_items} items are reproduced, {before} before, {own} when it was forgotten"
    outcome: Outcome = "reject" if after > before else "review" if after > own else "pass"
    words += _BEFORE_US if outcome == "review" else ""
    return check("G7", name, outcome, "forgetting", words, value=after, threshold=min(before, own))


def _sampled(one: EarlierRequest, level: float) -> Check:
    """Samples are drawn: more of them than before count where chance does not explain it (Fisher's exact test)."""
    after, before, n = one.after.sampled_items, one.before.sampled_items, one.n_items
    own = before if one.own_time is None else one.own_time.numbers.sampled_items
    name = f"sampled answers regained, request {one.request_id}"
    words = f"{name}: {after} of {n} items are in samples, {before} before, {own} when it was forgotten"
    by_us, since = (exact_tail(after, n, count, n) < level for count in (before, own))
    outcome: Outcome = "reject" if by_us else "review" if since else "pass"
    words += _BEFORE_US if outcome == "review" else ""
    return check("G7", name, outcome, "forgetting", words, value=after, threshold=min(before, own))


def _exact(numbers: EarlierNumbers) -> int:
    return max(numbers.greedy_hits, numbers.exact)


def _strength(one: EarlierRequest, margin: Margin) -> Check:
    """A mean of so few items that only its size is judged: the report keeps no item of an earlier request."""
    name = f"extraction strength regained, request {one.request_id}"
    return _rise(one, name, _step(one), _judged(_step(one), margin), margin)


def _strength_since(one: EarlierRequest, own: EarlierNumbers, margin: Margin) -> Check:
    name = f"extraction strength regained since forgotten, request {one.request_id}"
    rise = one.after.extraction_strength - own.extraction_strength
    outcome = _judged(rise, margin)
    if outcome != "pass" and rise - max(_step(one), 0.0) > margin.accept:
        return _rise(one, name, rise, "review", margin, _BEFORE_US)
    return _rise(one, name, rise, outcome, margin)


def _step(one: EarlierRequest) -> float:
    return one.after.extraction_strength - one.before.extraction_strength


def _judged(rise: float, margin: Margin) -> Outcome:
    """Round-off decides nothing."""
    return "pass" if rise <= margin.accept + 1e-12 else "review" if rise <= margin.reject + 1e-12 else "reject"


def _rise(one: EarlierRequest, name: str, rise: float, outcome: Outcome, margin: Margin, why: str = "") -> Check:
    words = f"{name}: {rise:.3f} ({one.n_items} items); accepted up to {margin.accept:g}, rejected above"
    words += f" {margin.reject:g}{why}"
    return check("G7", name, outcome, "forgetting", words, value=rise, threshold=margin.accept)


def _together(case: Case) -> Iterator[Check]:
    """The backward score: too little to be seen in one request shows in many."""
    asked = case.report.earlier
    now = [one.after.extraction_strength for one in asked]
    own = [(one.own_time.numbers if one.own_time else one.before).extraction_strength for one in asked]
    rises = [late - early for late, early in zip(now, own, strict=True)]
    found, at_first = (backward_score(rises, level) for level in (case.alpha, FIRST_ALPHA))
    if found is None or at_first is None:
        return
    name = "extraction strength regained since forgotten, mean of the requests"
    words = f"{name}: {found.score:.3f}, at most {found.high:.3f}"
    harm = Bounds(found.score, found.low, found.high, found.requests, "requests", reach=at_first.high - found.score)
    margin = case.policy.earlier_gain
    judged = margin_check(case, "G7", name, "forgetting", words, harm, margin)
    ours = max(0.0, sum(map(_step, asked)) / len(asked))
    if judged.outcome == "reject" and found.score - ours > margin.accept:
        judged = judged.model_copy(update={"outcome": "review", "words": judged.words + _BEFORE_US})
    yield judged


def _said_again(case: Case, found: Sequence[HashedRequest], where: str, side: Side) -> Iterator[Check]:
    level = case.policy.extraction_significance / max(1, len(found))
    for one in found:
        name = f"kept words said again, request {one.request_id}{where}"
        words = f"{name}: in the answers to {one.after} of {one.n_questions} questions, {one.before} before"
        outcome, why = _new(one, level)
        yield check("G7", name, outcome, side, words + why, value=one.after, threshold=one.before)


def _new(one: HashedRequest, level: float) -> tuple[Outcome, str]:
    lost = one.before - (one.after - one.gained)
    chance = binomial_tail(one.gained, one.gained + lost, 0.5)
    if one.gained and chance < level:
        return "reject", f"; {one.gained} are new, and chance gives so many with probability {chance:.2g}"
    if one.gained and not one.before:
        return "review", ", where none was"
    return "pass", ""
