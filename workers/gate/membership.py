"""G3: can anybody tell that the person was in the training data, difficulty taken out? Both sides give away.

For each membership score (evaluation/membership.py) the forget items' departures from what never-trained items of the
same difficulty score are held against the control's: the AUC is 0.5 where nobody can tell, above where the items are
still known, below where their silence shows. With five people on both sides whole people are resampled; with fewer,
the mean departure has the error that the control's people vary by. What is told apart by two scores or more counts;
what that means is the policy's: no answer comes back, but who was forgotten may be found out.

Beside it a list of items that one by one still look trained, by conformal p-values, with a bound on its wrong findings.
It takes items as strangers to each other, which three phrasings of one fact are not: on made-up people a never-trained
LLM had 3 of 15 listed. So the list alone throws nothing away; an item that is known outright is found in G1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from records.report import Check, GroupName, ItemNumbers
from workers.evaluation.calibrated_auc import auc_statistic, telling_apart
from workers.evaluation.calibration import fit_reference, mean_departure
from workers.evaluation.conformal import identified_items
from workers.evaluation.residual_ratio import BOOTSTRAP_SUBJECTS, Scored
from workers.evaluation.variance_components import Floats
from workers.gate.columns import Case, as_told, check, log_probability, people, scored
from workers.gate.margins import Bounds
from workers.item_scores import Read

TWO_SCORES = 2
LEAST_MARGIN = 1e-6  # a margin of 0 or of 0.5 has no test: the nearest that has


@dataclass(frozen=True, slots=True)
class Told:
    """One score's answer; `bounds` of the AUC, None for the ends where too few people give no interval."""

    score: str
    outcome: Literal["same", "known", "silent", "undecided"]
    auc: float
    low: float | None
    high: float | None


def checks(case: Case) -> Iterator[Check]:
    case = case.finding
    found = [told for name, read in SCORES.items() if (told := _told(case, name, read)) is not None]
    if not found:
        words = "whether forgotten people can be told from never-trained ones was not measured"
        yield check("G3", "membership", "pass", "power", words)
        return
    yield from (_one(told) for told in found)
    yield from _together(case, found)
    yield from _identified(case)


def _zlib(one: ItemNumbers) -> float | None:
    return None if one.zlib is None else -one.zlib


def _min_k(one: ItemNumbers) -> float | None:
    return None if one.min_k is None else -one.min_k


def _min_k_plus_plus(one: ItemNumbers) -> float | None:
    return None if one.min_k_plus_plus is None else -one.min_k_plus_plus


# Signed so that more is better known.
SCORES: dict[str, Read] = {"loss": log_probability, "zlib": _zlib, "min_k": _min_k, "min_k_plus_plus": _min_k_plus_plus}


def _told(case: Case, name: str, read: Read) -> Told | None:
    pair = scored(case, GroupName.FORGET, read)
    if pair is None:
        return None
    forget, control = pair
    ours, theirs, degrees = departures(forget, control)
    if degrees < 1:
        return None
    if min(forget.units, control.units) >= BOOTSTRAP_SUBJECTS:
        margin = min(max(case.policy.membership.accept, LEAST_MARGIN), 0.5 - LEAST_MARGIN)
        told = telling_apart(
            ours, forget.subjects, theirs, control.subjects, seed=case.seed, margin=margin, alpha=case.alpha
        )
        outcome = _beyond(told.outcome, told.interval.low, told.interval.high, case.policy.membership.reject)
        return Told(name, outcome, told.interval.value, told.interval.low, told.interval.high)
    return _of_few(case, name, forget, control, float(auc_statistic(ours, theirs)(_whole(ours, theirs))[0]))


def departures(forget: Scored, control: Scored) -> tuple[Floats, Floats, int]:
    """d of both, after; degrees of freedom of the line."""
    fitted = fit_reference(control.after, control.base, control.subjects)
    ours = forget.after - fitted.expected(forget.base, len(forget.after))
    return ours, control.after - fitted.expected(control.base, len(control.after)), fitted.degrees


def _beyond(
    outcome: Literal["same", "known", "silent", "undecided"], low: float, high: float, margin: float
) -> Literal["same", "known", "silent", "undecided"]:
    """Told apart only where the whole interval is beyond the wider margin."""
    if outcome == "same":
        return "same"
    return "known" if low >= 0.5 + margin else "silent" if high <= 0.5 - margin else "undecided"


def _whole(ours: Floats, theirs: Floats) -> tuple[Floats, Floats]:
    return np.ones((1, len(ours))), np.ones((1, len(theirs)))


def _of_few(case: Case, name: str, forget: Scored, control: Scored, auc: float) -> Told:
    """Told apart where the mean departure is, and the AUC is as far out as would count with more people."""
    fitted = fit_reference(control.after, control.base, control.subjects)
    low, high = mean_departure(fitted, forget.after, forget.base, forget.subjects).interval(1 - 2 * case.alpha)
    margin = case.policy.membership.reject
    if low > 0 and auc >= 0.5 + margin:
        return Told(name, "known", auc, None, None)
    if high < 0 and auc <= 0.5 - margin:
        return Told(name, "silent", auc, None, None)
    return Told(name, "undecided", auc, None, None)


_WORDS = {
    "same": "nobody can tell them from never-trained ones",
    "known": "they can be told from never-trained ones: still known",
    "silent": "they can be told from never-trained ones: too little known",
    "undecided": "neither that they can be told from never-trained ones nor that they cannot is shown",
}


def _one(told: Told) -> Check:
    ends = "" if told.low is None else f" ({told.low:.3f} to {told.high:.3f})"
    words = f"membership by {told.score}: AUC {told.auc:.3f}{ends}, {_WORDS[told.outcome]}"
    bounds = Bounds(
        told.auc, told.auc if told.low is None else told.low, told.auc if told.high is None else told.high, 0
    )
    return check("G3", f"membership by {told.score}", "pass", "power", words, bounds=bounds, threshold=0.5)


def _together(case: Case, found: list[Told]) -> Iterator[Check]:
    for outcome in ("known", "silent"):
        names = [told.score for told in found if told.outcome == outcome]
        words = f"{len(names)} of {len(found)} membership scores tell the forgotten as {outcome}"
        if names:
            words += f" ({', '.join(names)})"
        counts = len(names) >= TWO_SCORES
        yield check(
            "G3",
            f"told apart as {outcome}",
            as_told(case.policy) if counts else "pass",
            "over_forgetting",
            words,
            value=len(names),
            threshold=1,
        )


def _identified(case: Case) -> Iterator[Check]:
    pair = scored(case, GroupName.FORGET, log_probability)
    if pair is None:
        return
    forget, control = pair
    ours, theirs, _ = departures(forget, control)
    found = identified_items(ours, theirs, case.policy.identified_rate)
    share = len(found.listed) / found.tested
    most = case.policy.identified_share
    words = (
        f"{len(found.listed)} of {found.tested} forget items ({people(forget.units)}) still look trained one by one, "
        f"at most {found.rate:g} of them wrongly if items of one person were strangers to each other"
    )
    if not found.able:
        words += f"; a single one could be listed with {found.control_needed} control items, there are {found.control}"
    outcome = as_told(case.policy) if share > most else "pass"
    yield check("G3", "items identified", outcome, "over_forgetting", words, value=share, threshold=most)
