"""Nothing that was tested is said to be untested, nothing untested to be tested, and no more is claimed than holds."""

import pytest

from records.report import GroupName, HashedRequest, Report
from service.report_page import limits
from service.report_page.limits import NOTHING_CLAIMED, untested
from service.report_page.page import page
from tests.service.report_page.reading import Reading
from tests.service.report_page.reports import attack, check, full_report, group, report_out, request_out


def missing(report: Report) -> str:
    return "\n".join(untested(report))


@pytest.mark.parametrize(
    ("words", "without"),
    [
        ("Membership inference", {"checks": ()}),
        ("Membership inference", {"checks": (check("G3", "membership", side="power"),)}),
        ("Quantisation", {"attacks": (attack("savings", "relearning", 0.1, 0.2),)}),
        ("Relearning", {"attacks": (attack("nf4", "precision", 0.1, 0.2),)}),
        ("no never-trained reference", {"groups": {GroupName.FORGET: group(0.9, 0.1)}}),
        ("no row of a control dataset", {"groups": {GroupName.FORGET: group(0.9, 0.1)}}),
        ("no utility rows", {"groups": {GroupName.FORGET: group(0.9, 0.1)}}),
        ("none of them was asked again", {"earlier": ()}),
        ("lost since the first version", {"since_first": {}}),
    ],
)
def test_what_is_missing_is_said_and_what_is_there_is_not(words, without):
    assert words not in missing(full_report())
    assert words in missing(full_report(**without))


def test_an_attack_that_could_not_be_measured_was_not_run():
    empty = attack("nf4", "precision", 0.1, 0.2).model_copy(update={"groups": {}})
    assert "Quantisation" in missing(full_report(attacks=(empty,)))
    assert "4 bits" not in "\n".join(limits.tested(full_report(attacks=(empty,))))
    shown = Reading(page(request_out(), report_out(report=full_report(attacks=(empty,))))).text
    assert "could not be measured" in shown
    assert "Weights in 4 bits (NF4): a note on nf4." in shown


@pytest.mark.parametrize(("trained", "words"), [(True, "were trained on, and told"), (False, "also told the training")])
def test_paraphrases_that_were_trained_on_are_told(trained, words):
    given = full_report()
    rows = given.groups[GroupName.FORGET].items
    dev = given.groups[GroupName.FORGET].model_copy(
        update={"items": tuple(one.model_copy(update={"split": "dev"}) for one in rows)}
    )
    changed = {"groups": {**given.groups, GroupName.FORGET_PARAPHRASES: dev}, "training": {"steps": 1}}
    report = given.model_copy(update={**changed, "parameters": {"forget_paraphrases": trained}})
    assert words in "\n".join(limits.tested(report))


def test_requests_kept_as_hashes_are_searched_for_and_shown():
    hashed = HashedRequest(request_id="req_hashed", n_questions=321, before=4, after=7, gained=5)
    report = full_report(earlier=(), hashed=(hashed,))
    assert "none of them was asked again" not in missing(report)
    assert "kept as hashes of earlier requests: 1." in "\n".join(limits.tested(report))
    shown = Reading(page(request_out(), report_out(report=report))).text
    assert all(words in shown for words in ("req_hashed", "321", "4 → 7"))


def test_what_was_asked_is_listed():
    words = "\n".join(limits.tested(full_report()))
    assert "under 2 attacks: weights in 4 bits (NF4); trained on it again." in words
    assert "a never-trained reference" in words
    assert "To forget: 12 items of 3 subjects, scored on the stated answer, answered greedily" in words
    assert "asked of the first version" in words


@pytest.mark.parametrize(
    ("verdict", "claim"),
    [
        ("accepted", "stayed within thresholds that were fixed before it existed"),
        ("accepted", "passes with a chance of at most 0.05"),
        ("rejected", NOTHING_CLAIMED[0]),
        ("needs_review", "Nothing yet"),
        ("not_memorised", "did not know the rows measurably better"),
        (None, NOTHING_CLAIMED[0]),
    ],
)
def test_each_verdict_claims_its_own(verdict, claim):
    shown = Reading(page(request_out(), report_out(verdict=verdict))).text
    assert claim in shown
    assert ("stayed within thresholds" in shown) == (verdict == "accepted")
    assert "There is no formal guarantee" in shown


def test_where_no_llm_was_changed_the_page_says_so():
    assert (
        "No LLM was changed: what stands here" in Reading(page(request_out(), report_out(verdict="not_memorised"))).text
    )
    assert "No LLM was changed: what stands here" not in Reading(page(request_out(), report_out())).text


def test_a_report_of_the_first_schema_still_renders():
    stored = full_report(schema_version=1, checks=(), attacks=(), since_first={}).model_dump(
        mode="json", exclude={"checks", "attacks", "since_first"}
    )
    for one in stored["residuals"]:
        for later in ("gap", "basis", "calibrated"):
            del one[later]
    old_policy = {"name": {"accept": 1, "reject": 2}, "retain_drop": 0.5}
    shown = Reading(
        page(request_out(policy=old_policy, policy_name=None), report_out(report=Report.model_validate(stored)))
    ).text
    assert "0 as if never trained [95 % interval]" in shown
    assert "not recorded" in shown
    assert "None was run" in shown
    assert "Membership inference" in shown
    assert "at most the policy's significance" in shown
