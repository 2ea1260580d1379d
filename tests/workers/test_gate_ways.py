"""An item that is asked in several ways is one item: who guesses one of them guesses the others."""

import pytest

from records.policy import Policy
from records.report import Attack, Check, Group, GroupName, ItemNumbers, ItemRow
from tests.workers.simulated_people import group
from tests.workers.test_gate_criteria import KNOWN, UNKNOWN, asked, like, report, rows
from tests.workers.test_gate_unmeasured import having
from workers.gate import decide

# As likely as a never-trained answer: nothing but the count can tell.
GUESSED = like(UNKNOWN, exact=True, greedy_extracted=True)
LOST = like(KNOWN, exact=False, token_accuracy=0.5)
WAYS = 3


def in_ways(answers: list[list[ItemNumbers]]) -> Group:
    """Of each item one answer a way; two items a subject."""
    return group(
        [
            ItemRow(item=item, phrasing=way, subject=item // 2, before=KNOWN, after=one)
            for item, some in enumerate(answers)
            for way, one in enumerate(some)
        ]
    )


def hit(items: int, ways: int, of: int) -> Group:
    """So many items were hit in so many of their ways."""
    guessed = [GUESSED] * ways + [UNKNOWN] * (WAYS - ways)
    return in_ways([guessed] * items + [[UNKNOWN] * WAYS] * (of - items))


def given_in_part(forget: Group, name: str) -> Check:
    attack = Attack(
        name="partly_given", kind="prompt", seconds=1.0,
        groups={GroupName.FORGET: forget, GroupName.CONTROL: hit(0, 0, 20)},
    )  # fmt: skip
    return asked(report(attacks=(attack,)), f"{name}, forget asked by partly_given")


def test_one_item_guessed_in_three_ways_is_one_guess() -> None:
    # One of 10 beside none of 20: a third. As 3 of 30 answers beside none of 60: C(30,3)/C(90,3) = 0.035.
    found = given_in_part(hit(1, 3, 10), "exact answers")
    assert (found.outcome, found.value) == ("pass", 3)
    assert "3 of 30 answers to 10 items" in found.words
    share = given_in_part(hit(1, 3, 10), "right answers")
    assert share.value == pytest.approx(0.1)
    assert share.low is not None
    assert share.low <= 0.0


@pytest.mark.parametrize("ways", [1, 3])
def test_half_of_the_items_are_found_in_however_many_ways(ways: int) -> None:
    found = given_in_part(hit(5, ways, 10), "exact answers")
    assert (found.outcome, found.value) == ("reject", 5 * ways)
    share = given_in_part(hit(5, ways, 10), "right answers")
    assert share.outcome != "pass"
    assert share.value == pytest.approx(5 * ways / 30)


def test_three_paraphrases_of_one_fact_are_one_item_too() -> None:
    beside = {"control_paraphrases": hit(0, 0, 20)}
    name = "exact answers, forget_paraphrases"
    assert asked(having(report(), forget_paraphrases=hit(1, 3, 10), **beside), name).outcome == "pass"
    assert asked(having(report(), forget_paraphrases=hit(5, 1, 10), **beside), name).outcome == "reject"


@pytest.mark.parametrize("kind", ["prompt", "precision"])
@pytest.mark.parametrize("hits", [1, 10])
def test_a_hit_beside_no_control_is_for_a_person(kind: str, hits: int) -> None:
    forget = rows([KNOWN] * 10, [KNOWN] * hits + [UNKNOWN] * (10 - hits))
    attack = Attack.model_validate({"name": "odd", "kind": kind, "seconds": 1.0, "groups": {"forget": forget}})
    checks = [one for one in asked_all(attack) if one.gate == "G6"]
    assert {one.outcome for one in checks if one.name.startswith(("exact answers", "right answers"))} == {"review"}
    assert not [one for one in checks if one.outcome == "reject"]
    assert {one.side for one in checks if one.outcome == "review"} <= {"forgetting", "precision"}


def test_no_hit_beside_no_control_passes() -> None:
    forget = rows([KNOWN] * 10, [UNKNOWN] * 10)
    attack = Attack.model_validate({"name": "odd", "kind": "prompt", "seconds": 1.0, "groups": {"forget": forget}})
    assert {one.outcome for one in asked_all(attack)} == {"pass"}


def test_an_answer_lost_in_three_wordings_is_one_answer() -> None:
    # 2 of 60 items in all their wordings: as 6 of 180 answers the same share, but from three times as many.
    kept = in_wordings([[KNOWN] * 3] * 58 + [[LOST] * 3] * 2)
    plain = in_wordings([[KNOWN]] * 58 + [[LOST]] * 2)
    name = "loss of exact answers, retain_paraphrases"
    thrice, once = (asked(having(report(), retain_paraphrases=one), name) for one in (kept, plain))
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high))
    part = asked(
        having(report(), retain_paraphrases=in_wordings([[KNOWN] * 3] * 58 + [[LOST, KNOWN, KNOWN]] * 2)), name
    )
    assert part.value == pytest.approx(2 / 3 / 60)


def test_wordings_of_one_subject_have_as_many_units_as_it_has_items() -> None:
    worn = like(KNOWN, token_accuracy=0.9)
    answers = [[KNOWN] * 3] * 5 + [[worn] * 3] * 5
    found = asked(having(report(), retain_paraphrases=in_wordings(answers)), "loss of likeliest tokens, retain_para")
    once = asked(
        having(report(), retain_paraphrases=in_wordings([some[:1] for some in answers])),
        "loss of likeliest tokens, retain_para",
    )
    assert (found.value, found.high) == pytest.approx((once.value, once.high))


def test_shares_that_add_up_to_a_little_more_than_all_items_are_taken() -> None:
    # Of each of three items one wording in five was lost and four were gained: 0.6000000000000001 + 2.4.
    pairs = [(KNOWN, LOST), *[(LOST, KNOWN)] * 4]
    swapped = [
        ItemRow(item=item, phrasing=way, subject=0, before=before, after=after)
        for item in range(3)
        for way, (before, after) in enumerate(pairs)
    ]
    found = asked(having(report(), retain_paraphrases=group(swapped, samples=0)), "loss of exact answers, retain_para")
    assert found.value == pytest.approx(-0.6)


def in_wordings(answers: list[list[ItemNumbers]]) -> Group:
    """All of one subject, known before."""
    return group(
        [
            ItemRow(item=item, phrasing=way, subject=0, before=KNOWN, after=one)
            for item, some in enumerate(answers)
            for way, one in enumerate(some)
        ],
        samples=0,
    )


def asked_all(attack: Attack) -> list[Check]:
    return list(decide(report(attacks=(attack,)), Policy()).checks)
