"""What was not measured, or by too little, is never taken for kept: it is measured otherwise, or a person decides."""

import math

import pytest

from records.policy import Policy
from records.report import EarlierNumbers, EarlierRequest, Group, GroupName, ItemNumbers, ItemRow, OwnTime, Report
from tests.workers.simulated_people import group, memorised, simulated
from tests.workers.test_gate_criteria import KNOWN, UNKNOWN, asked, attack, like, report, rows
from workers.gate import decide, nothing_to_forget

PARAPHRASES, CONTROL_PARAPHRASES = GroupName.FORGET_PARAPHRASES, GroupName.CONTROL_PARAPHRASES


def having(given: Report, **groups: Group) -> Report:
    return given.model_copy(update={"groups": {**given.groups, **{GroupName(name): it for name, it in groups.items()}}})


def half_known(one: ItemNumbers) -> ItemNumbers:
    return like(one, exact=False, greedy_extracted=False, sampled_hits=0, token_probability=0.64, nll=0.45,
                extraction_strength=0.5, sampled_probability=0.001)  # fmt: skip


def people_left(whole: int, strength: float) -> Group:
    """Sealed paraphrases of five people, of whom so many are left whole; of the others the strength was as given."""
    left, gone = (like(half_known(KNOWN), extraction_strength=one) for one in (0.8, strength))
    return rows([left] * whole * 5 + [gone] * (5 - whole) * 5, [left] * whole * 5 + [gone] * (5 - whole) * 5, 5)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_few_control_paraphrases_do_not_stand_for_the_control(count: int) -> None:
    left = rows([KNOWN] * 25, [half_known(KNOWN)] * 25)
    beside = {"control_paraphrases": rows([UNKNOWN] * count, [UNKNOWN] * count, 1)} if count else {}
    verdict = decide(having(simulated(3, 5), forget_paraphrases=left, **beside), Policy())
    assert verdict.kind == "rejected"
    assert any("residual, forget_paraphrases" in words for words in verdict.reasons)


@pytest.mark.parametrize("whole", [1, 2])
@pytest.mark.parametrize("strength", [0.0, 0.001])
def test_people_of_whom_nothing_was_known_do_not_hide_those_left_whole(whole: int, strength: float) -> None:
    blank = rows([like(UNKNOWN, extraction_strength=0.0)] * 20, [like(UNKNOWN, extraction_strength=0.0)] * 20)
    given = report(forget_paraphrases=people_left(whole, strength), control_paraphrases=blank)
    found = asked(given, "extraction_strength residual, forget_paraphrases")
    assert (found.outcome, found.value) == ("reject", pytest.approx(1.0))


def without_reference(given: Report, name: GroupName, count: int) -> Report:
    rows = given.groups[name].items
    items = [one.model_copy(update={"reference": None}) for one in rows[:count]]
    return having(given, **{name: group([*items, *rows[count:]])})


def of_another_kind() -> Report:
    """Their answers are far harder than the forgotten people's, as a never-trained LLM sees."""
    given = simulated(3, 8)
    harder = [
        one.model_copy(update={"reference": like(one.reference, nll=one.reference.nll + 3.0)})
        for one in given.groups[GroupName.CONTROL].items
        if one.reference is not None
    ]
    return having(given, control=group(harder))


def test_a_row_that_the_reference_cannot_read_does_not_switch_the_reference_off() -> None:
    kind = "control of one kind"
    whole, hole = of_another_kind(), without_reference(of_another_kind(), GroupName.CONTROL, 1)
    assert asked(whole, kind).outcome == asked(hole, kind).outcome == "review"
    assert "1 control rows were left out" in asked(hole, kind).words
    bounds = [asked(one, "token_probability residual, forget").high for one in (simulated(3, 8), simulated(3, 8))]
    calibrated = asked(without_reference(simulated(3, 8), GroupName.CONTROL, 1), "token_probability residual, forget")
    assert calibrated.high == pytest.approx(bounds[0], abs=0.005)


@pytest.mark.parametrize(("name", "count"), [(GroupName.FORGET, 1), (GroupName.CONTROL, 195)])
def test_what_the_reference_cannot_read_wants_a_person(name: GroupName, count: int) -> None:
    found = asked(without_reference(simulated(3, 8), name, count), "control of one kind")
    assert found.outcome == "review"
    assert f"{count} {name}" in found.words


def test_without_any_reference_the_words_say_so() -> None:
    found = asked(simulated(3, 8, reference=False), "control of one kind")
    assert (found.outcome, "names no reference" in found.words) == ("pass", True)


@pytest.mark.parametrize(
    ("known", "kind"),
    [([], "not_memorised"), ([like(half_known(KNOWN), token_probability=0.9, nll=0.1)] * 2, "rejected")],
)
def test_a_mean_does_not_hide_two_rows_that_were_known(known: list[ItemNumbers], kind: str) -> None:
    forget = rows([UNKNOWN] * (50 - len(known)) + known, [UNKNOWN] * (50 - len(known)) + known)
    assert decide(report(forget=forget), Policy()).kind == kind


@pytest.mark.parametrize(("bits", "nothing"), [(6.0, False), (1.4, True)])
def test_canaries_that_stood_out_were_memorised(bits: float, nothing: bool) -> None:
    canaries = rows([like(UNKNOWN, exposure=bits)] * 10, [UNKNOWN] * 10)
    assert (nothing_to_forget(report(forget=canaries), Policy()) is not None) is nothing


def test_one_item_that_comes_back_in_four_bits_is_found() -> None:
    known = like(KNOWN, exact=False, greedy_extracted=False, sampled_hits=0, token_probability=0.9)
    quantised = rows([KNOWN] * 50, [UNKNOWN] * 49 + [known])
    control = rows([UNKNOWN] * 40, [UNKNOWN] * 40)
    found = asked(report(attacks=(attack("nf4", "precision", quantised, control),)), "items known, forget in nf4")
    assert (found.gate, found.outcome, found.value) == ("G6", "reject", 1)


def test_a_candidate_that_breaks_where_the_base_version_does_not_wants_a_person() -> None:
    broken = attack("nf4", "precision", None, notes=("no numbers",)).model_copy(update={"candidate_broke": True})
    assert asked(report(attacks=(broken,)), "nf4 not measured").outcome == "review"


def test_required_attacks_are_all_kinds_of_them() -> None:
    alone = attack("prefix", "prompt", rows([KNOWN] * 10, [UNKNOWN] * 10), rows([UNKNOWN] * 20, [UNKNOWN] * 20))
    missing = [f"{one} attacks not measured" for one in ("int8", "nf4", "relearning")]
    verdict = decide(report(attacks=(alone,)), Policy(attacks_required=True))
    assert verdict.kind == "needs_review"
    assert [one.name for one in verdict.checks if one.name.endswith("not measured")] == missing
    assert decide(report(attacks=(alone,)), Policy()).kind == "accepted"


def test_a_relearning_without_its_control_is_not_measured() -> None:
    one_person = rows([UNKNOWN] * 4, [UNKNOWN] * 4, per_subject=4)
    savings = attack("savings", "relearning", rows([UNKNOWN] * 10, [KNOWN] * 10), one_person)
    name = "regained by training (savings)"
    assert asked(report(attacks=(savings,)), name, attacks_required=True).outcome == "review"


def earlier(before: int, after: int, own: int) -> EarlierRequest:
    numbers = [
        EarlierNumbers(token_probability=0.1, exact=0, extraction_strength=0.0, greedy_hits=0, sampled_items=count)
        for count in (before, after, own)
    ]
    return EarlierRequest(
        request_id="req_1", n_items=10, before=numbers[0], after=numbers[1],
        own_time=OwnTime(version=2, n_items=10, numbers=numbers[2]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ((0, 10, 0), "reject"),
        ((0, 1, 0), "pass"),  # as chance would have it
        ((10, 10, 0), "review"),  # before this job
        ((1, 0, 0), "pass"),
    ],
)
def test_sampled_answers_of_an_earlier_request_count_too(counts: tuple[int, int, int], outcome: str) -> None:
    given = report().model_copy(update={"earlier": (earlier(*counts),)})
    assert asked(given, "sampled answers regained, request req_1").outcome == outcome


def kept(before: list[bool], after: list[bool], accuracy: tuple[float, float]) -> Group:
    """Rows that must stay: exact or not, with a mean share of likeliest tokens."""
    items = [
        ItemRow(
            item=at,
            phrasing=0,
            subject=at,
            before=like(memorised(), exact=early, token_accuracy=accuracy[0]),
            after=like(memorised(), exact=late, token_accuracy=accuracy[1]),
        )
        for at, (early, late) in enumerate(zip(before, after, strict=True))
    ]
    return group(items, samples=0)


def test_a_loss_made_by_this_job_is_not_called_an_earlier_one() -> None:
    """No answer is lost, only likeliest tokens: all of them by this job, as against the first version."""
    utility = kept([True] * 100, [True] * 100, (1.0, 0.9))
    given = having(report(since_first={GroupName.UTILITY: utility}), utility=utility)
    found = asked(given, "loss of likeliest tokens, utility since the first version")
    assert (found.outcome, found.side) == ("reject", "utility")
    unharmed = kept([True] * 100, [True] * 100, (0.9, 0.9))
    spent = having(report(since_first={GroupName.UTILITY: utility}), utility=unharmed)
    found = asked(spent, "loss of likeliest tokens, utility since the first version")
    assert (found.outcome, found.side) == ("review", "power")


@pytest.mark.parametrize(("undecided", "goes_on"), [("accept", False), ("review", True)])
def test_whether_too_few_rows_were_memorised_is_decided_as_the_policy_says(undecided: str, goes_on: bool) -> None:
    """One person of five rows, of whom a gap of 0.05 can neither be shown nor ruled out."""
    scattered = [like(UNKNOWN, token_probability=0.2 + 0.15 * math.sin(at)) for at in range(40)]
    given = report(
        forget=rows(scattered[:5], [UNKNOWN] * 5, per_subject=5), control=rows(scattered, [UNKNOWN] * 40, per_subject=5)
    )
    found = nothing_to_forget(given, Policy(undecided=undecided))
    assert (found is None) is goes_on
    assert goes_on or "could have been missed" in asked(given, "memorised before").words
