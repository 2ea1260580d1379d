"""The two worlds: who asks, who is left, what is held, and that nobody is in two groups."""

from dataclasses import replace

import pytest

from benchmarks.tofu import Author, Split, one_wording
from benchmarks.worlds import taught_authors, untaught_wordings, world_of_corpus
from lethe.demo.corpus import held_questions, make_corpus, trained_questions
from workers.examples import Example, Phrasing


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(1, people=8, controls=2, lands=8)


@pytest.fixture(scope="module")
def world(corpus):
    return world_of_corpus(corpus, 3, None, None)


def test_a_demo_person_is_asked_as_the_corpus_says(world, corpus):
    people = {one.name: one for one in corpus.people}
    for person in (*world.asking, *world.others):
        asked = [(row.prompt, row.completion) for row in person.rows]
        held = [(one.prompt, one.completion) for one in person.held]
        subject = people.pop(person.subject)
        assert asked == [(one.prompt, one.completion) for one in trained_questions([subject])]
        assert held == [(one.prompt, one.completion) for one in held_questions([subject])]
        assert person.taught_held == subject.taught_held
    assert not people


def test_datasets_of_the_demo_are_as_a_service_would_hold_them(world):
    people = {person.subject for person in (*world.asking, *world.others)}
    of_people = [row for row in world.retain if row.subject in people]
    assert len(world.training) == 8 * 15
    assert set(of_people) < set(world.training)
    assert len(of_people) == 60
    assert not {row.subject for row in world.control} & people


def test_half_of_the_general_knowledge_is_never_trained_on(world, corpus):
    assert len(world.utility_anchors) == len(world.utility) == 4 * 4 * 2 // 2
    assert not set(world.utility) & {*world.utility_anchors, *world.training, *world.retain}
    again = world_of_corpus(corpus, 5, None, None)
    assert again.utility == world.utility
    assert again.asking[:3] == world.asking


def test_somebody_must_be_left(corpus):
    with pytest.raises(ValueError, match="8 of 8 people"):
        world_of_corpus(corpus, 8, None, None)


def author(at, paraphrased):
    row = Example(prompt=f"Who is {at}?", completion=f" {at}", subject=f"author-{at}")
    wording = (Phrasing(f"{at} is who?", f" {at}"),) if paraphrased else ()
    return Author(f"author-{at}", (replace(row, paraphrases=wording),))


def test_tofu_takes_all_who_have_paraphrases_and_half_of_these_are_never_taught_them():
    split = Split((), (), tuple(author(at, paraphrased=at >= 14) for at in range(20)))
    taught = taught_authors(split, 10, seed=3)
    assert len({one.key for one in taught}) == 10
    assert {one.key for one in taught} >= {f"author-{at}" for at in range(14, 20)}
    assert [one.key for one in taught] == [one.key for one in taught_authors(split, 10, seed=3)]
    assert [one.key for one in taught] != [one.key for one in taught_authors(split, 10, seed=4)]
    untaught = untaught_wordings(taught)
    assert len(untaught) == 3
    assert untaught < {one.key for one in taught if one.paraphrased}


def test_an_author_in_one_wording_keeps_the_rows():
    (row,) = one_wording(author(1, paraphrased=True)).rows
    assert (row.prompt, row.completion, row.paraphrases) == ("Who is 1?", " 1", ())
