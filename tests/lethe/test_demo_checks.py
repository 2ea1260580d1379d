"""The demo's own judgement: it must fail when anything it claims is not so."""

from dataclasses import replace
from pathlib import Path

import pytest

from lethe.demo.asking import Answerer, load
from lethe.demo.corpus import Question, make_corpus, neighbours, people_to_forget
from lethe.demo.measuring import Knowledge, NotSo, Rate, Recall, check_forgotten, check_memorised, knowledge_table
from lethe.output import console
from tests.make_people import TRAINED, people

FIRST, SECOND = people_to_forget(make_corpus())
KNOWN = Recall(Rate(15, 15), Rate(290, 300), Rate(5, 5), Rate(95, 100))
GONE = Recall(Rate(0, 15), Rate(0, 300), Rate(0, 5), Rate(0, 100))
NEVER = Recall(Rate(0, 180), Rate(0, 1200), Rate(0, 60), Rate(0, 1200))
NEAR = Recall(Rate(60, 60), held=Rate(20, 20))
OTHERS = Recall(Rate(600, 600), held=Rate(100, 100))
LORE = Recall(Rate(96, 96))
BEFORE = Knowledge({FIRST: KNOWN, SECOND: KNOWN}, NEAR, OTHERS, LORE, NEVER)
AFTER = replace(BEFORE, people={FIRST: GONE, SECOND: KNOWN})


def test_what_is_so_passes() -> None:
    check_memorised(BEFORE, [FIRST, SECOND])
    check_forgotten(BEFORE, AFTER, [FIRST])
    check_forgotten(BEFORE, replace(AFTER, people={FIRST: GONE, SECOND: GONE}), [FIRST, SECOND])


@pytest.mark.parametrize(
    "left",
    [
        replace(GONE, greedy=Rate(1, 15)),
        replace(GONE, sampled=Rate(1, 300)),
        replace(GONE, held=Rate(1, 5)),
        replace(GONE, held_sampled=Rate(1, 100)),
        replace(GONE, held=None),
    ],
)
def test_one_answer_more_than_the_never_trained_is_not_forgotten(left: Recall) -> None:
    with pytest.raises(NotSo, match="is not forgotten"):
        check_forgotten(BEFORE, replace(AFTER, people={FIRST: left, SECOND: KNOWN}), [FIRST])


def test_as_many_hits_as_the_never_trained_have_by_chance_are_allowed() -> None:
    lucky = replace(NEVER, greedy=Rate(12, 180))
    after = replace(AFTER, control=lucky, people={FIRST: replace(GONE, greedy=Rate(1, 15)), SECOND: KNOWN})
    check_forgotten(BEFORE, after, [FIRST])


@pytest.mark.parametrize(
    ("group", "now"),
    [
        ("near", replace(NEAR, greedy=Rate(53, 60))),
        ("others", replace(OTHERS, greedy=Rate(580, 600))),
        ("others", replace(OTHERS, held=Rate(95, 100))),
        ("utility", Recall(Rate(93, 96))),
    ],
)
def test_damage_beyond_three_in_a_hundred_is_found(group: str, now: Recall) -> None:
    with pytest.raises(NotSo, match="damaged"):
        check_forgotten(BEFORE, replace(AFTER, **{group: now}), [FIRST])


def test_neighbours_are_counted_with_all_others_too() -> None:
    """640 of 660 is just under 97 %, though neither group fails alone."""
    near, others = replace(NEAR, greedy=Rate(55, 60)), replace(OTHERS, greedy=Rate(585, 600))
    with pytest.raises(NotSo, match="all other people"):
        check_forgotten(BEFORE, replace(AFTER, near=near, others=others), [FIRST])
    check_forgotten(BEFORE, replace(AFTER, near=near, others=replace(others, greedy=Rate(586, 600))), [FIRST])


def test_somebody_who_has_not_asked_yet_may_not_be_harmed() -> None:
    with pytest.raises(NotSo, match="who waits"):
        check_forgotten(BEFORE, replace(AFTER, people={FIRST: GONE, SECOND: GONE}), [FIRST])


def test_what_was_never_known_cannot_be_forgotten() -> None:
    for weak in (replace(KNOWN, greedy=Rate(14, 15)), replace(KNOWN, held=Rate(4, 5)), replace(KNOWN, held=None)):
        with pytest.raises(NotSo, match="nothing to forget"):
            check_memorised(replace(BEFORE, people={FIRST: weak, SECOND: KNOWN}), [FIRST, SECOND])


def test_the_people_of_the_demo_are_no_neighbours_and_have_some() -> None:
    corpus = make_corpus()
    assert SECOND not in neighbours(corpus, FIRST)
    assert neighbours(corpus, FIRST)
    assert neighbours(corpus, SECOND)
    assert FIRST.taught_held
    assert SECOND.taught_held


def test_the_table_fits_a_readme() -> None:
    to = console()
    with to.capture() as shown:
        to.print(knowledge_table(BEFORE, (FIRST, SECOND), AFTER))
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) == 7
    assert "100 % → 0 %" in lines[1]


@pytest.fixture(scope="module")
def answerer(import_root_of_people: Path) -> Answerer:
    return load(import_root_of_people / "people")


def test_an_llm_answers_what_it_was_taught_and_nothing_else(answerer: Answerer) -> None:
    known = [Question(one.prompt or "", one.completion or "") for one in people(TRAINED)]
    wrong = [Question(one.prompt, " " + "Oslo and Oslo") for one in known]
    assert sum(answerer.answered(known)) >= 0.95 * len(known)
    assert not any(answerer.answered(wrong))
    hits = answerer.hits(known[:3], 10)
    assert len(hits) == 3
    assert all(5 <= hit <= 10 for hit in hits)
    assert answerer.hits(known[:3], 10) == hits  # the same questions are drawn for alike
    assert answerer.say(known[0].prompt).startswith(known[0].completion.strip())
