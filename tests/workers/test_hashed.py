"""Requests of which only hashes are kept: what an LLM says is searched for their words, and the gate hears of it."""

import dataclasses
from typing import Any

import pytest
import torch

from records.evidence import gram_hashes, kept_of
from records.policy import Policy
from records.report import HashedRequest, Report
from tests.make_llm import make_llama
from tests.make_people import NEVER_TRAINED, TRAINED, memorised, people
from workers.attacks.battery import AttackSettings, Targets, run_attacks
from workers.attacks.relearning import Training
from workers.evaluation.acceptance import attempt_alpha
from workers.gate import earlier
from workers.gate.columns import Case
from workers.measure import Measurement, measure
from workers.probes import Probes
from workers.reader import MeasureSettings
from workers.report import build_report

torch.set_num_threads(1)

KEY = b"k" * 32
FORGET, CONTROL, OTHERS = people(TRAINED[:1]), people(NEVER_TRAINED), people(TRAINED[1:4])
PROBES = Probes(forget=FORGET, control=CONTROL, neighbours=OTHERS)


def hashes_of(names: list[str]) -> Any:
    return gram_hashes([one.completion or "" for one in people(names)], KEY, 7)


KEPT = kept_of({"req_said": hashes_of(TRAINED[1:2]), "req_unsaid": gram_hashes(["words that nobody says"], KEY, 7)})


@pytest.fixture(scope="module")
def measured() -> dict[str, Measurement]:
    """By whom: an LLM that knows a neighbour whose answers are kept as hashes, and one that knows nothing."""
    llm, tokenizer = memorised()
    settings = MeasureSettings(samples=3, kept=KEPT)
    ignorant = make_llama(vocabulary=len(tokenizer))
    return {
        "knows": measure(llm, tokenizer, PROBES, settings),
        "ignorant": measure(ignorant, tokenizer, PROBES, settings),
    }


def report_of(before: Measurement, after: Measurement) -> Report:
    return build_report(before, after, method="undial", parameters={}, seeds={})


def test_the_questions_are_counted_whose_answers_hold_what_is_kept(measured: dict[str, Measurement]) -> None:
    gone = report_of(measured["knows"], measured["ignorant"]).hashed
    back = report_of(measured["ignorant"], measured["knows"]).hashed
    assert [one.request_id for one in gone] == ["req_said", "req_unsaid"]
    said, unsaid = back
    asked = len(FORGET) + 2 * len(CONTROL) + len(OTHERS)  # the control in both of its phrasings
    assert said.n_questions == asked
    assert said.before == 0
    assert said.after == said.gained >= 2  # the neighbour's own two questions at least
    assert (gone[0].before, gone[0].after, gone[0].gained) == (said.after, 0, 0)
    assert (unsaid.before, unsaid.after) == (0, 0)


def test_nothing_kept_nothing_said(measured: dict[str, Measurement]) -> None:
    bare = dataclasses.replace(measured["knows"], hashed=())
    assert report_of(bare, bare).hashed == ()


def test_attacks_are_searched_too() -> None:
    llm, tokenizer = memorised()
    ignorant = make_llama(vocabulary=len(tokenizer))
    kept = kept_of({"req_1": hashes_of(TRAINED[:1])})
    settings = AttackSettings(Training(learning_rate=1e-4), samples=2, kept=kept)
    targets = Targets(Probes(forget=FORGET, control=CONTROL))
    found = run_attacks(lambda: ignorant, lambda: llm, tokenizer, targets, settings, lambda _: None).attacks
    by_name = {one.name: one.hashed for one in found}
    assert by_name["savings"] == ()  # only scored
    for name in ("int8", "nf4"):
        (one,) = by_name[name]
        assert one.gained == one.after > one.before == 0, name


def judged(*hashed: HashedRequest, significance: float = 0.05) -> list[str]:
    report = Report(method="undial", parameters={}, seeds={}, seconds={}, groups={}, hashed=hashed)
    case = Case(report, Policy(extraction_significance=significance), attempt_alpha(1, 3))
    return [check.outcome for check in earlier.checks(case)]


def one(before: int, after: int, gained: int) -> HashedRequest:
    return HashedRequest(request_id="req_1", n_questions=100, before=before, after=after, gained=gained)


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (one(0, 0, 0), "pass"),
        (one(3, 1, 0), "pass"),
        (one(0, 1, 1), "review"),  # nothing of it was ever said before: a person looks
        (one(0, 5, 5), "reject"),  # 1/32
        (one(9, 10, 4), "pass"),  # 4 new, 3 lost: words that anybody may say come and go
        (one(9, 15, 7), "reject"),  # 7 new, 1 lost: 9/256
        (one(2, 9, 7), "reject"),  # 7 new, none lost
    ],
)
def test_new_words_are_held_against_lost_ones(found: HashedRequest, outcome: str) -> None:
    assert judged(found) == [outcome]


def test_many_requests_share_the_level() -> None:
    assert judged(one(1, 6, 5)) == ["reject"]
    assert judged(*[one(1, 6, 5)] * 2) == ["pass"] * 2
