"""Which rows are held in place, and which only asked: nobody's who asked to be forgotten, and never both in turn."""

import unicodedata
from typing import Any

import pytest

from records.examples import letters
from records.parts import Parts
from records.rows import JobRow, RequestRow
from records.states import Outcome
from tests.workers.conftest import make_model, make_request, order_of, planned, put_dataset
from workers.examples import Example
from workers.plan import HELD_OUT_LEAST, PROBE_ROWS, hold_out

FACTS = [
    {"prompt": f"Where is {name}?", "completion": f" {town}"} for name, town in (("Ada", "Zürich"), ("Bo", "Rome"))
]
ADA, BO = FACTS


def end(parts: Parts, request_id: str, **columns: Any) -> None:
    """The first job is over, and its request as the columns say."""
    with parts.database.transaction() as session:
        for name, value in columns.items():
            setattr(session.get_one(RequestRow, request_id), name, value)
        session.query(JobRow).order_by(JobRow.position).limit(1).one().state = "failed"


@pytest.mark.parametrize(
    "same",
    [
        {"text": "Where is Ada? Zürich"},
        {"text": unicodedata.normalize("NFD", "Where is Ada?  Zürich")},
        {"prompt": "Where", "completion": " is Ada? Zürich"},
        {"prompt": "Ada lives", "completion": " in Zürich"},  # a paraphrase
        {"text": "Ada lives in Zürich"},
    ],
)
def test_no_row_is_held_that_says_what_is_to_be_forgotten(parts: Parts, same: dict[str, str]) -> None:
    made = make_model(parts)
    put_dataset(parts, made, "training", [same, BO])
    make_request(parts, made, [ADA | {"paraphrases": [{"prompt": "Ada lives", "completion": " in Zürich"}]}])
    plan = planned(parts, made)
    assert [one.prompt for one in plan.retain] == [BO["prompt"]]
    assert [one.prompt for one in plan.probes.retain] == [BO["prompt"]]


def test_a_blank_subject_is_nobodys(parts: Parts) -> None:
    """A table whose column of names is empty: one such row asked for is not everybody's."""
    made = make_model(parts)
    put_dataset(parts, made, "training", [ADA | {"subject": " "}, BO | {"subject": "  "}])
    make_request(parts, made, [ADA | {"subject": " "}])
    plan = planned(parts, made)
    assert [one.prompt for one in plan.retain] == [BO["prompt"]]
    assert [one.subject for one in (*plan.probes.forget, *plan.retain)] == [None, None]


def test_a_general_row_that_is_spaced_otherwise_elsewhere_is_not_trained_on_there(parts: Parts) -> None:
    made = make_model(parts)
    general = [{"prompt": f"Fact {at}?", "completion": f" {at}"} for at in range(4 * HELD_OUT_LEAST)]
    put_dataset(parts, made, "utility", general)
    put_dataset(parts, made, "training", [{"text": f"Fact {at}?  {at}"} for at in range(len(general))])
    make_request(parts, made, [ADA])
    plan = planned(parts, made)
    asked = {letters(one.whole) for one in plan.probes.utility}
    assert asked
    assert asked.isdisjoint(letters(one.whole) for one in plan.retain)


@pytest.mark.parametrize(("state", "held"), [("failed", False), ("needs_review", False), ("cancelled", True)])
def test_who_failed_to_be_forgotten_is_not_held_and_who_took_it_back_is(parts: Parts, state: str, held: bool) -> None:
    made = make_model(parts)
    put_dataset(parts, made, "training", [ADA, ADA | {"prompt": "And Ada?", "subject": "Ada"}, BO])
    first, _ = make_request(parts, made, [ADA], subject="Ada")
    make_request(parts, made, [{"prompt": "Where is Cy?", "completion": " Riga"}])
    end(parts, first, state=state)
    plan = planned(parts, made)
    assert ({"Where is Ada?", "And Ada?"} <= {one.prompt for one in plan.retain}) is held
    assert len(plan.retain) == (3 if held else 1)
    assert not plan.replay


def test_all_whom_a_request_names_stay_gone_when_its_examples_are_destroyed(parts: Parts) -> None:
    made = make_model(parts)
    rows = [ADA | {"subject": "Ada"}, BO | {"subject": "Bo"}, {"prompt": "Where is Cy?", "completion": " Riga"}]
    put_dataset(parts, made, "training", rows)
    first, _ = make_request(parts, made, rows[:2])
    make_request(parts, made, [{"prompt": "Where is Dag?", "completion": " Bern"}])
    references = [parts.vault.subject_reference(made.tenant_id, name) for name in ("Ada", "Bo")]
    end(parts, first, state="completed", wrapped_key=None, subject_references=references)
    assert [one.prompt for one in planned(parts, made).retain] == ["Where is Cy?"]


@pytest.mark.parametrize(("outcome", "shredded"), [(Outcome.NO_MATCH, 0), (Outcome.FORGOTTEN, 1)])
def test_a_request_that_matched_nothing_has_lost_no_examples(parts: Parts, outcome: Outcome, shredded: int) -> None:
    made = make_model(parts)
    first, _ = make_request(parts, made, [ADA])
    make_request(parts, made, [BO])
    end(parts, first, state="completed", outcome=str(outcome), wrapped_key=None)
    assert order_of(parts, made).shredded == shredded


def rows_of(people: range) -> list[Example]:
    return [Example(prompt=f"Where is {one}, {at}?", completion=" Oslo") for one in people for at in range(5)]


def test_a_share_is_asked_and_the_rest_trained_on() -> None:
    pool = rows_of(range(400))
    asked, kept, notes = hold_out(pool)
    assert sorted(map(str, (*asked, *kept))) == sorted(map(str, pool))
    assert 160 < len(asked) < 240
    assert notes == ()
    half, _, _ = hold_out(pool, 0.5)
    assert 200 < len(half) < 300, f"of half of them at most about {PROBE_ROWS} are asked, a quarter therefore"


@pytest.mark.parametrize("n_people", [20, 100, 3000])
def test_what_is_only_asked_was_never_trained_on_whoever_else_has_gone(n_people: int) -> None:
    trained: set[str] = set()
    mixed = 0
    for gone in range(15):
        asked, kept, _ = hold_out(rows_of(range(gone, n_people)))
        mixed += len({one.whole for one in asked} & trained)
        trained |= {one.whole for one in kept}
    # Of so few that 20 are a fifth and more, another is asked when one that was asked goes.
    assert mixed == 0 if n_people > 20 else mixed <= 15 * 15


@pytest.mark.parametrize("count", [2 * HELD_OUT_LEAST, 43, 47, 99, 799])
def test_both_halves_of_the_general_rows_are_large_enough(count: int) -> None:
    pool = [Example(text=f"fact {at}") for at in range(count)]
    asked, kept, notes = hold_out(pool, 0.5)
    assert min(len(asked), len(kept)) >= HELD_OUT_LEAST // 2
    assert not notes


def test_of_few_rows_or_the_same_again_and_again_all_are_asked_and_trained_on() -> None:
    few = rows_of(range(8))[: 2 * HELD_OUT_LEAST - 1]
    for pool in (few, few * 3):
        asked, kept, notes = hold_out(pool)
        assert (asked, kept) == (pool, pool)
        assert "same rows" in notes[0]
    assert hold_out([]) == ([], [], ())
