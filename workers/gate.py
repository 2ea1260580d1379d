"""May this candidate be published? A pure function of the report and the policy, fixed before either existed.

Two questions stand first. Did the base version know the forget set better than data it never saw? If not, there is
nothing to forget. Does the candidate still produce it, more often than the control? That is a leak, whatever the
means say, and with one person's ten rows counts of exact answers are all that can be tested. Then: how much is left on
average, was too much removed, what else was damaged, has anything come back, and were there enough items to tell.
"""

import math
from collections.abc import Iterator, Sequence

from records.policy import Margin, Policy
from records.report import (
    Check,
    EarlierRequest,
    Group,
    GroupName,
    ItemNumbers,
    ItemRow,
    MetricName,
    Report,
    Verdict,
    VerdictKind,
)
from workers.evaluation.intervals import binomial_tail

__all__ = ["Verdict", "VerdictKind", "decide"]

_CONTROL_OF = {
    GroupName.FORGET: GroupName.CONTROL,
    GroupName.FORGET_PARAPHRASES: GroupName.CONTROL_PARAPHRASES,
}


def decide(report: Report, policy: Policy) -> Verdict:
    """Rejected if any check rejects, else needs_review if any wants a person, else accepted."""
    known = _memorised(report, policy)
    if known.outcome == "reject":
        return Verdict(kind=VerdictKind.NOT_MEMORISED, reasons=(known.words,), checks=(known,))
    checks = (
        known,
        *_power(report, policy),
        *_extraction(report, policy),
        *_residuals(report, policy),
        *_over_forgotten(report, policy),
        *_damage(report, policy),
        *_earlier(report, policy),
    )
    for outcome, kind in (("reject", VerdictKind.REJECTED), ("review", VerdictKind.NEEDS_REVIEW)):
        reasons = tuple(check.words for check in checks if check.outcome == outcome)
        if reasons:
            return Verdict(kind=kind, reasons=reasons, checks=checks)
    reasons = tuple(check.words for check in checks if check.side != "power")
    return Verdict(kind=VerdictKind.ACCEPTED, reasons=reasons, checks=checks)


def _memorised(report: Report, policy: Policy) -> Check:
    """`reject` here means: nothing measurable to remove."""
    forget = report.groups[GroupName.FORGET]
    level = _control_mean(report, MetricName.TOKEN_PROBABILITY, "before")
    exact = sum(row.before.exact for row in forget.items)
    gap = forget.metrics[MetricName.TOKEN_PROBABILITY].before.value - (level or 0.0)
    leaks = _leaks(report, GroupName.FORGET, "before", policy)
    memorised = gap > policy.memorised_gap or any(leaked for _, leaked in leaks)
    words = (
        f"before: {exact} of {forget.n_items} forget rows were reproduced exactly, token probability "
        f"{gap:.3f} above the {'control' if level is not None else 'zero level (no control)'}"
    )
    if not memorised:
        words += f", within the {policy.memorised_gap:g} that chance explains: there is nothing measurable to remove"
    outcome = "pass" if memorised else "reject"
    return _check("memorised before", outcome, "forgetting", words, gap, policy.memorised_gap)


def _power(report: Report, policy: Policy) -> Iterator[Check]:
    sizes = (
        (GroupName.FORGET, policy.min_forget_items, True),
        (GroupName.CONTROL, policy.min_control_items, policy.control_required),
        (GroupName.RETAIN, policy.min_retain_items, policy.retain_required),
    )
    for name, least, required in sizes:
        count = report.groups[name].n_items if name in report.groups else 0
        enough = count >= least or (count == 0 and not required)
        words = f"{count} {name} items were measured, at least {least} are needed to decide without a person"
        if count == 0:
            words = f"there is no {name} dataset" + ("" if enough else ": a person has to decide")
        yield _check(f"{name} items", "pass" if enough else "review", "power", words, count, least)


def _extraction(report: Report, policy: Policy) -> Iterator[Check]:
    """Exact answers under greedy and sampled decoding, on every row and phrasing, dev ones too."""
    for name in _CONTROL_OF:
        if name in report.groups:
            yield from (check for check, _ in _leaks(report, name, "after", policy))


def _leaks(report: Report, name: GroupName, when: str, policy: Policy) -> list[tuple[Check, bool]]:
    group = report.groups[name]
    control = _control_of(report, name)
    numbers = [_numbers(row, when) for row in group.items]
    found = []
    greedy = sum(bool(one.greedy_extracted) or one.exact for one in numbers)
    chance = _rate([bool(one.greedy_extracted) or one.exact for one in _control_numbers(control, when)])
    found.append(_leak(f"greedy extraction, {name}", greedy, len(numbers), chance, policy))
    if group.samples:
        hit = sum(bool(one.sampled_hits) for one in numbers)
        chance = _rate([_sampled_chance(one, group.samples) for one in _control_numbers(control, when)])
        found.append(_leak(f"extraction in {group.samples} samples, {name}", hit, len(numbers), chance, policy))
    return found


def _leak(name: str, hits: int, items: int, chance: float, policy: Policy) -> tuple[Check, bool]:
    """More hits than never-trained answers give: P(X ≥ hits) under the control's rate is below the significance."""
    tail = binomial_tail(hits, items, chance)
    leaked = hits > 0 and tail < policy.extraction_significance
    words = f"{name}: {hits} of {items} items produced the exact answer; the control's rate is {chance:.3f}"
    if hits:
        words += f", at which this many has probability {tail:.3g}"
    return _check(name, "reject" if leaked else "pass", "forgetting", words, hits, chance), leaked


def _sampled_chance(one: ItemNumbers, samples: int) -> float:
    """Chance of a hit among the samples: what was seen, or what the probabilities say, whichever is more."""
    expected = 1 - (1 - one.sampled_probability) ** samples
    return max(expected, float(bool(one.sampled_hits)))


def _residuals(report: Report, policy: Policy) -> Iterator[Check]:
    margins = {
        MetricName.EXTRACTION_STRENGTH: policy.extraction_strength,
        MetricName.TOKEN_PROBABILITY: policy.token_probability,
    }
    for one in report.residuals:
        enough = one.n_items >= policy.interval_items
        value = one.residual.high if enough else one.residual.value
        name = f"{one.metric} residual, {one.group}"
        basis = "upper 95 % end" if enough else f"mean of {one.n_items} items, too few for an interval"
        yield _margin_check(name, value, margins[one.metric], "forgetting", basis)


def _over_forgotten(report: Report, policy: Policy) -> Iterator[Check]:
    """A probability far below a never-trained answer's marks the data out again."""
    level = _control_mean(report, MetricName.TOKEN_PROBABILITY, "after")
    if level is None:
        return
    after = report.groups[GroupName.FORGET].metrics[MetricName.TOKEN_PROBABILITY].after
    least = policy.over_forgotten_ratio * level
    words = (
        f"token probability of the forget rows is {after.value:.4f} (at most {after.high:.4f}), the control's "
        f"{level:.4f}; below {least:.4f} the silence itself would show"
    )
    outcome = "review" if after.high < least else "pass"
    yield _check("over-forgotten", outcome, "forgetting", words, after.high, least)


def _damage(report: Report, policy: Policy) -> Iterator[Check]:
    margins = {
        GroupName.RETAIN: policy.retain_drop,
        GroupName.RETAIN_PARAPHRASES: policy.neighbours_drop,
        GroupName.NEIGHBOURS: policy.neighbours_drop,
        GroupName.UTILITY: policy.utility_drop,
    }
    for name, margin in margins.items():
        group = report.groups.get(name)
        if group is None:
            continue
        change = group.metrics[MetricName.EXACT].change
        basis = f"share of {group.n_items} items whose exact answer was lost, gains subtracted"
        check = _margin_check(f"loss of exact answers, {name}", -change.value, margin, "utility", basis)
        yield check if change.high < 0 else _softened(check)
        if name is GroupName.UTILITY:
            yield _perplexity(group, policy)


def _softened(check: Check) -> Check:
    """A loss whose interval includes none at all is no ground to reject: one item of twenty may be chance."""
    if check.outcome != "reject":
        return check
    words = f"{check.words}; too few items to tell this from chance"
    return check.model_copy(update={"outcome": "review", "words": words})


def _perplexity(group: Group, policy: Policy) -> Check:
    nll = group.metrics[MetricName.NLL].change.value
    ratio = math.exp(min(nll, 50.0))
    basis = "perplexity after / before"
    return _margin_check("perplexity, utility", ratio, policy.utility_perplexity, "utility", basis)


def _earlier(report: Report, policy: Policy) -> Iterator[Check]:
    """Nothing an earlier request removed may come back: no new exact answer, no rise in extraction strength."""
    for one in report.earlier:
        yield _earlier_hits(one)
        rise = one.after.extraction_strength - one.before.extraction_strength
        name = f"extraction strength regained, request {one.request_id}"
        yield _margin_check(name, rise, policy.earlier_gain, "forgetting", f"{one.n_items} items")


def _earlier_hits(one: EarlierRequest) -> Check:
    before, after = max(one.before.greedy_hits, one.before.exact), max(one.after.greedy_hits, one.after.exact)
    name = f"exact answers regained, request {one.request_id}"
    words = f"{name}: {after} of {one.n_items} items are reproduced, {before} before"
    return _check(name, "reject" if after > before else "pass", "forgetting", words, after, before)


def _margin_check(name: str, value: float, margin: Margin, side: str, basis: str) -> Check:
    outcome = "pass" if value <= margin.accept else "review" if value <= margin.reject else "reject"
    words = f"{name}: {value:.3f} ({basis}); accepted up to {margin.accept:g}, rejected above {margin.reject:g}"
    return _check(name, outcome, side, words, value, margin.accept)


def _check(name: str, outcome: str, side: str, words: str, value: float, threshold: float) -> Check:
    return Check.model_validate(
        {"name": name, "outcome": outcome, "side": side, "words": words, "value": value, "threshold": threshold}
    )


def _control_of(report: Report, name: GroupName) -> Group | None:
    return report.groups.get(_CONTROL_OF[name]) or report.groups.get(GroupName.CONTROL)


def _control_numbers(control: Group | None, when: str) -> list[ItemNumbers]:
    return [] if control is None else [_numbers(row, when) for row in control.items]


def _numbers(row: ItemRow, when: str) -> ItemNumbers:
    return row.before if when == "before" else row.after


def _control_mean(report: Report, metric: MetricName, when: str) -> float | None:
    control = report.groups.get(GroupName.CONTROL)
    if control is None:
        return None
    paired = control.metrics[metric]
    return paired.before.value if when == "before" else paired.after.value


def _rate(chances: Sequence[float]) -> float:
    """Mean over the control's items; 0 without a control, so that any hit counts."""
    return sum(chances) / len(chances) if chances else 0.0
