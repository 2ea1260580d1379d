"""G7: nothing an earlier request removed may come back: no new exact answer, no rise in extraction strength."""

from collections.abc import Iterator

from records.policy import Margin
from records.report import Check, EarlierRequest
from workers.gate.columns import Case, check


def checks(case: Case) -> Iterator[Check]:
    for one in case.report.earlier:
        yield _hits(one)
        yield _strength(one, case.policy.earlier_gain)


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
