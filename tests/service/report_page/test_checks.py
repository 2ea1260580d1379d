"""Every answer of the gate has its own sign and word, and the page says first what decided."""

import pytest

from records.report import Check
from service.report_page import checks, outcomes
from service.report_page.outcomes import sign_of
from service.report_page.page import page
from service.report_page.words import GATES, spoken
from tests.service.report_page.reading import Reading
from tests.service.report_page.reports import CHECKS, check, full_report, margin, report_out, request_out

LOW_IS_WORSE = {"name": "suppressed", "side": "over_forgetting", "low": -0.9, "high": -0.6, "threshold": -0.5}


def shown(*found: Check, verdict: str = "rejected") -> str:
    return Reading(page(request_out(), report_out(report=full_report(checks=found), verdict=verdict))).text


@pytest.mark.parametrize(
    ("one", "sign"),
    [
        (margin("G1", "residual", 0.4, 0.5, 0.1, outcome="reject"), outcomes.FAILED),
        (margin("G1", "residual", 0.2, 0.5, 0.1, outcome="review"), outcomes.ASKED),
        (margin("G1", "residual", 0.05, 0.1, 0.1), outcomes.PASSED),
        (margin("G1", "residual", 0.05, 0.11, 0.1), outcomes.UNSHOWN),
        (margin("G0", "memorised before", 0.9, 0.95, 0.05), outcomes.PASSED),
        (check("G1", "exact answers, forget", value=1, threshold=0.2), outcomes.PASSED),
        (check("G1", value=-0.7, **LOW_IS_WORSE), outcomes.FOUND),
        (check("G1", value=-0.1, **{**LOW_IS_WORSE, "high": 0.1}), outcomes.PASSED),
        (check("G3", "told apart as known", value=2, threshold=1), outcomes.FOUND),
        (check("G3", "told apart as known", value=1, threshold=1), outcomes.PASSED),
        (check("G3", "membership by loss", side="power", value=0.6, threshold=0.5), outcomes.MEASURED),
        (check("G3", "membership", side="power"), outcomes.UNTESTED),
        (check("G6", "attacks", "review", side="power"), outcomes.ASKED),
        (check("G0", "retain items", side="power", value=0, threshold=20), outcomes.UNTESTED),
        (check("G0", "control never trained", side="power", value=0, threshold=0), outcomes.PASSED),
    ],
)
def test_a_check_has_one_sign(one, sign):
    assert sign_of(one) == sign


def test_signs_differ_by_mark_and_word_and_not_by_colour_alone():
    for signs in (outcomes.WORST_FIRST, tuple(outcomes.OF_VERDICTS.values())):
        assert len({sign.mark for sign in signs}) == len({sign.word for sign in signs}) == len(signs)


def test_every_check_is_in_the_table_of_its_gate_or_under_what_was_not_tested():
    lines = shown(*CHECKS, verdict="accepted").splitlines()
    for gate in ("G0", "G1", "G3", "G4"):
        assert f"{gate} {GATES[gate]}" in lines
    assert f"G2 {GATES['G2']}" not in lines  # all of it was not tested
    assert "exact memorisation residual, forget" in lines
    assert "0.020 [-0.400, 0.440]" in lines
    assert "0.610 [0.520, 0.700]" in lines
    for words in ("There is no retain dataset.", "Truth share residual, forget: not measured."):
        assert lines.count(words) == 1
    assert "Exact memorisation residual, forget: too few to show it: 2 items measured, about 99 are needed." in lines


def test_what_decided_comes_first():
    failed = margin("G2", "truth_share residual, forget", 0.9, 0.95, 0.35, outcome="reject")
    lines = shown(*CHECKS, failed).splitlines()
    assert lines.index("Truth share residual, forget: 0.900, at most 0.950; too few to show it: 2 items measured, "
                       "about 99 are needed.") < lines.index("The gates")  # fmt: skip
    passed = shown(*CHECKS, verdict="accepted")
    assert "7 criteria were asked, and none failed. 1 of them held on the numbers seen" in passed
    assert passed.index("Told apart as silent.") < passed.index("The gates")  # found, and only reported


def test_a_gate_answers_with_its_worst_and_counts_all():
    lines = shown(*CHECKS, verdict="accepted").splitlines()
    at = lines.index(GATES["G1"])
    assert lines[at + 1 : at + 4] == ["≈", " passed, not shown", "1 passed, not shown; 1 passed"]
    assert outcomes.worst([outcomes.PASSED, outcomes.FAILED, outcomes.ASKED]) == outcomes.FAILED


def test_a_gate_that_this_page_does_not_know_is_shown():
    lines = shown(check("G9", "something new"), check("", "something old")).splitlines()
    assert "something new" in lines
    assert "something old" in lines
    assert GATES[""] in lines


def test_a_report_without_checks_says_so_and_gives_the_reason():
    found = report_out(report=full_report(checks=()))
    assert checks.decided(found.report) is None
    lines = Reading(page(request_out(), found)).text.splitlines()
    assert found.reason in lines
    assert len([line for line in lines if "is not stored with this report" in line]) == 1


def test_identifiers_become_words_and_ids_stay():
    assert spoken("min_k_plus_plus, min_k, forget_paraphrases") == "Min-K++, Min-K, forget paraphrases"
    assert spoken("exact_memorisation, request req_before: -0.000") == "exact memorisation, request req_before: 0.000"
