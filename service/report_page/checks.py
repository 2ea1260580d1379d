"""The verdict, criterion by criterion: what the gate asked, what it came to, and what it could not ask."""

from collections import Counter
from collections.abc import Iterable, Sequence

from records.report import Check, Report
from service.report_page import figures, words
from service.report_page.markup import Html, bullets, join, table, tag
from service.report_page.outcomes import FOUND, UNSHOWN, WORST_FIRST, is_untested, shown, sign_of, worst

_NOT_STORED = "What the gate asked is not stored with this report; the reason of each attempt is under Attempts."


def overview(report: Report) -> Html:
    """A line a gate: its question, its worst answer, how many of each. Nothing of a report without checks."""
    columns = ("gate", "question", "answer", "criteria")
    rows = ((gate, words.GATES[gate], *_together(of)) for gate, of in _by_gate(report.checks))
    return table("The gates", columns, rows) if report.checks else join(())


def decided(report: Report) -> Html | None:
    """Why not accepted, or how much stands behind the acceptance; None for reports without checks."""
    if not report.checks:
        return None
    for outcome in ("reject", "review"):
        sentences = [_sentence(one.words) for one in report.checks if one.outcome == outcome]
        if sentences:
            return bullets(sentences)
    return _nothing_failed([one for one in report.checks if not is_untested(one)])


def gates(report: Report) -> Html:
    """A table a gate, of what was tested; the rest is under its own heading."""
    tested = _by_gate(one for one in report.checks if not is_untested(one))
    made = [_gate(gate, of) for gate, of in tested]
    return join(made) if made else tag("p", _NOT_STORED)


def untested(report: Report) -> list[str]:
    """What the gate itself says that it could not ask."""
    return [_sentence(one.words) for one in report.checks if is_untested(one)]


def unshown(report: Report) -> list[str]:
    """What held, of too few items to show that it does: its name, and how many would be needed."""
    held = [one for one in report.checks if sign_of(one) == UNSHOWN]
    return [figures.sentence(f"{words.spoken(one.name)}: {one.words.rpartition('; ')[2]}") for one in held]


def _nothing_failed(asked: Sequence[Check]) -> Html:
    """An acceptance is no better than what it leaves open: that stands beside it."""
    unshown = sum(sign_of(one) == UNSHOWN for one in asked)
    few = f" {unshown} of them held on the numbers seen, with too few items to show it." if unshown else ""
    counted = tag("p", f"{len(asked)} criteria were asked, and none failed.{few}")
    found = [_sentence(one.words) for one in asked if sign_of(one) == FOUND]
    only = (tag("p", "Found, and by this policy only reported:"), bullets(found)) if found else ()
    return join((counted, *only))


def _by_gate(checks: Iterable[Check]) -> list[tuple[str, list[Check]]]:
    """In the order of the gates; checks that name no known gate are left to the last."""
    found: dict[str, list[Check]] = {gate: [] for gate in words.GATES}
    for one in checks:
        found[one.gate if one.gate in found else ""].append(one)
    return [(gate, of) for gate, of in found.items() if of]


def _together(of: Sequence[Check]) -> tuple[Html, str]:
    signs = [sign_of(one) for one in of]
    counts = Counter(signs)
    return shown(worst(signs)), "; ".join(f"{counts[one]} {one.word}" for one in WORST_FIRST if counts[one])


def _gate(gate: str, of: Sequence[Check]) -> Html:
    caption = f"{gate} {words.GATES[gate]}".strip()
    return table(caption, ("criterion", "answer", "value [interval]", "held against"), map(_check, of))


def _check(one: Check) -> tuple[str, ...]:
    name = words.spoken(one.name)
    said = one.words.removeprefix(one.name).lstrip(":, ")
    if said.startswith("("):
        said = said[1:].replace(")", "", 1)
    what = join((name, tag("span", _sentence(said), class_="said")))
    return what, shown(sign_of(one)), _value(one), "" if one.threshold is None else figures.count(one.threshold)


def _sentence(said: str) -> str:
    return figures.sentence(words.spoken(said))


def _value(one: Check) -> str:
    if one.value is None:
        return ""
    if one.low is None or one.high is None or one.low == one.high:
        return figures.count(one.value)
    return figures.interval(one.value, one.low, one.high)
