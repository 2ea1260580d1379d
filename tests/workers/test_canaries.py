"""Planted canaries from the reader to the gate: how far they stand out from what might have been planted."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from records.policy import Policy
from records.report import Check, EarlierNumbers, EarlierRequest, Group, GroupName, ItemRow, MetricName, Report
from tests.make_llm import make_llama
from tests.make_people import TRAINED, memorised, people
from tests.workers.evaluation.never_trained import allowed
from tests.workers.simulated_people import memorised as known
from workers.evaluation.acceptance import attempt_alpha
from workers.examples import Example, parse
from workers.gate import canaries
from workers.gate.columns import Case
from workers.measure import measure
from workers.probes import Probes
from workers.reader import MeasureSettings
from workers.report import build_report

torch.set_num_threads(1)

ALPHA = attempt_alpha(1, 3)


def canary(one: Example, others: list[Example], **changes: Any) -> Example:
    row = {"prompt": one.prompt, "completion": one.completion, "wrong": [it.completion for it in others]}
    return parse({**row, "canary": True, **changes})


PEOPLE = people(TRAINED)[::2]  # where each lives: answers of one kind
CANARIES = [canary(one, [it for it in PEOPLE if it is not one]) for one in PEOPLE[:2]]


def test_a_canary_learnt_by_heart_stands_out_from_every_other() -> None:
    llm, tokenizer = memorised()
    plain = canary(PEOPLE[2], PEOPLE[3:], canary=False)
    bare = canary(PEOPLE[3], [])
    probes = Probes(forget=[*CANARIES, plain, bare], earlier={"req_1": CANARIES})
    settings = MeasureSettings(samples=1, prefixes=0)
    before = measure(llm, tokenizer, probes, settings)
    after = measure(make_llama(vocabulary=len(tokenizer)), tokenizer, probes, settings)
    report = build_report(before, after, method="undial", parameters={}, seeds={})
    rows = report.groups[GroupName.FORGET].items
    assert [row.before.exposure for row in rows[:2]] == [math.log2(len(PEOPLE))] * 2
    assert [row.before.exposure for row in rows[2:]] == [None, None]  # no canary, and none with nothing beside it
    assert report.groups[GroupName.FORGET].metrics[MetricName.EXPOSURE].n_items == 2
    (earlier,) = report.earlier
    assert (earlier.before.canaries, earlier.before.exposure) == (2, pytest.approx(math.log2(len(PEOPLE))))
    assert (earlier.after.exposure or 0.0) < (earlier.before.exposure or 0.0)


def forget_of(bits: list[float | None]) -> Group:
    """Items of such exposure after."""
    rows = [
        ItemRow(item=at, phrasing=0, subject=at, before=known(), after=known().model_copy(update={"exposure": one}))
        for at, one in enumerate(bits)
    ]
    return Group(n_items=len(rows), n_subjects=len(rows), samples=0, metrics={}, items=tuple(rows))


def judged(bits: list[float | None], earlier: tuple[EarlierRequest, ...] = (), told: str = "report") -> list[Check]:
    groups = {GroupName.FORGET: forget_of(bits)}
    report = Report(method="undial", parameters={}, seeds={}, seconds={}, groups=groups, earlier=earlier)
    return list(canaries.checks(Case(report, Policy.model_validate({"membership_told": told}), ALPHA)))


@pytest.mark.parametrize(
    ("bits", "told", "outcome"),
    [
        ([5.0], "report", "reject"),  # 2^-5 = 0.031 < 0.05
        ([4.0], "report", "pass"),  # 2^-4 = 0.063: chance
        ([1.44] * 10, "reject", "pass"),  # as never trained
        ([2.5] * 10, "report", "pass"),  # beyond chance, and too little to tell an answer
        ([2.5] * 10, "review", "review"),
        ([3.5] * 10, "report", "reject"),
        ([3.5, None] * 5, "report", "reject"),  # rows that are none do not count
        ([0.0] * 10, "reject", "pass"),
    ],
)
def test_what_the_bits_come_to(bits: list[float | None], told: str, outcome: str) -> None:
    assert [check.outcome for check in judged(bits, told=told)] == [outcome]


def test_without_canaries_nothing_is_asked() -> None:
    assert judged([None, None]) == []


def asked_again(before: float, after: float) -> EarlierRequest:
    then, now = (
        EarlierNumbers(
            token_probability=0.1,
            exact=0,
            extraction_strength=0.0,
            greedy_hits=0,
            sampled_items=0,
            canaries=10,
            exposure=bits,
        )
        for bits in (before, after)
    )
    return EarlierRequest(request_id="req_1", n_items=10, before=then, after=now)


@pytest.mark.parametrize(
    ("before", "after", "outcome"), [(1.4, 1.5, "pass"), (1.4, 5.0, "reject"), (5.0, 5.0, "review")]
)
def test_canaries_of_an_earlier_request_may_not_come_back(before: float, after: float, outcome: str) -> None:
    (found,) = judged([None], (asked_again(before, after),))
    assert (found.gate, found.outcome) == ("G7", outcome)


def test_canaries_never_trained_on_are_seldom_taken_for_known() -> None:
    """1,000 requests of five canaries with 63 wrong answers each, any rank as likely: within the nominal level."""
    rng = np.random.default_rng(5)
    bits = math.log2(64) - np.log2(rng.integers(1, 65, size=(1000, 5)))
    told = sum(judged(row.tolist(), told="review")[0].outcome != "pass" for row in bits)
    assert 0 < told <= allowed(1000, ALPHA)
