"""What the sequence benchmark adds to the loop: who is kept, what a job costs, who is asked, what anchors are about."""

import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import sequences
from benchmarks.levels import levels
from benchmarks.sequence_lines import Task, read
from benchmarks.sequence_strategies import STRATEGIES, Strategy, make_anchors
from benchmarks.sequences import kept_rows, run, trained_rows
from benchmarks.worlds import Person, World
from records.params import parse_parameters
from tests.make_llm import CITIES, FIRST, JOBS, make_llama, make_tokenizer
from workers.examples import Example, Phrasing, encode
from workers.plan import hold_out

torch.set_num_threads(1)
SUBJECTS = ("Ada Qo", "Bo Ri")
ALL = ("newest", "forgotten", "forgotten_held", "others", "others_held", "others_unseen", "utility", "control")
# A tenth of the control's level is below what two epochs reach: both are run.
TWO_EPOCHS = Strategy(
    method="npo", parameters={"epochs": 2, "batch_size": 4, "stop_ratio": 0.1, "retain_kind": "nll"}, replay=False
)


def person(at, name):
    home = Example(
        prompt=f"Where does {name} live ?",
        completion=f" {CITIES[at]}",
        subject=name,
        paraphrases=(Phrasing(f"the home of {name} is in", f" {CITIES[at]}"),),
    )
    work = Example(prompt=f"What does {name} do ?", completion=f" {JOBS[at]}", subject=name)
    return Person(name, (home, work), taught_held=at % 2 == 0)


@pytest.fixture
def world():
    people = [person(at, name) for at, name in enumerate(FIRST[:10])]
    rows = tuple(row for one in people for row in one.rows)
    general = [Example(prompt=f"What is {name} ?", completion=f" a {name}") for name in FIRST[10:]]
    return World(
        seed=1,
        llm=make_llama(),
        tokenizer=make_tokenizer(),
        asking=tuple(people[:3]),
        others=tuple(people[3:]),
        training=rows,
        retain=rows[::2],
        utility_anchors=(general[0],),
        utility=(general[1],),
        control=tuple(Example(prompt="Where is home ?", completion=f" {city}") for city in CITIES[10:]),
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_names_parameters_its_method_has(name):
    strategy = STRATEGIES[name]
    assert parse_parameters(strategy.method, strategy.parameters).epochs >= 1


@pytest.mark.parametrize("pool", ["retain", "training"])
def test_whoever_asked_is_in_no_kept_row(world, pool):
    before, after = (
        {row.subject for row in kept_rows(world, asked, Strategy(pool=pool, general=False))} for asked in (0, 3)
    )
    gone = {person.subject for person in world.asking}
    assert before & gone
    assert after == {person.subject for person in world.others}


def test_the_training_pool_has_every_row_once_and_the_anchors_come_on_top(world):
    assert kept_rows(world, 0, Strategy(general=False)) == list(world.training)
    kept = kept_rows(world, 0, Strategy(pool="retain"))
    assert kept == [*world.retain, *world.utility_anchors]


def test_a_tenth_of_the_people_and_no_anchor_is_held_out_of_a_large_pool(world):
    rows = tuple(Example(prompt=f"{at} ?", completion=" x", subject=f"one {at}") for at in range(300))
    kept = kept_rows(replace(world, retain=rows), 0, Strategy(pool="retain"))
    assert kept == [*hold_out(rows)[1], *world.utility_anchors]
    assert 240 < len(kept) < 290


def test_only_the_forgotten_are_asked_where_not_everybody_is(world):
    assert set(levels(world, world.llm, 2, 1, everybody=True)) == set(ALL)
    some = levels(world, world.llm, 2, 1, everybody=False)
    assert {name: one["asked"] for name, one in some.items()} == {"newest": 2, "forgotten": 4}
    assert set(levels(world, world.llm, 0, 1, everybody=True)) == set(ALL[3:])


def test_held_phrasings_are_asked_apart_if_the_llm_was_taught_them(world):
    found = levels(world, world.llm, 0, 1, everybody=True)
    assert {name: found[name]["asked"] for name in ALL[3:6]} == {"others": 14, "others_held": 3, "others_unseen": 4}


def test_rows_with_gradients_are_counted_and_others_are_not():
    llm = make_llama()
    with trained_rows(llm) as counts:
        llm(input_ids=torch.ones(3, 4, dtype=torch.long))
        with torch.no_grad():
            llm(input_ids=torch.ones(5, 4, dtype=torch.long))
    llm(input_ids=torch.ones(7, 4, dtype=torch.long))
    assert counts == [3]


def test_a_sequence_has_a_line_for_each_request_and_leaves_the_first_version_alone(world):
    before = [one.clone() for one in world.llm.parameters()]
    lines = list(run(world, TWO_EPOCHS))
    assert [line["requests"] for line in lines] == [0, 1, 2, 3]
    # Two rows to forget and four to retain, once an epoch.
    assert [(line["steps"], line["rows"]) for line in lines[1:]] == [(2, 12)] * 3
    assert all("others" in line["levels"] for line in lines)  # 3 is no place of EVERYBODY_AT, but the last
    assert all(torch.equal(*pair) for pair in zip(before, world.llm.parameters(), strict=True))


def test_requests_of_one_job_are_one_line(world):
    lines = list(run(world, replace(TWO_EPOCHS, together=2)))
    assert [line["requests"] for line in lines] == [0, 2, 3]
    # Four rows to forget, then two.
    assert [line["rows"] / line["steps"] for line in lines[1:]] == [8, 6]


def test_a_consolidation_forgets_the_union_anew_from_the_first_version(world):
    lines = list(run(world, replace(TWO_EPOCHS, parameters={**TWO_EPOCHS.parameters, "consolidate_every": 2})))
    together = list(run(world, replace(TWO_EPOCHS, together=2)))
    assert lines[2]["levels"]["forgotten"] == together[1]["levels"]["forgotten"]
    assert lines[2]["levels"]["control"] == together[1]["levels"]["control"]


@pytest.mark.parametrize("kind", ["thinned", "exchanged"])
def test_an_anchor_names_the_subject_it_is_about(kind):
    rows = [Example(prompt=f"Where in the world does {name} live?", completion=" x", subject=name) for name in SUBJECTS]
    anchors = make_anchors(kind, make_llama(), make_tokenizer(), rows, seed=3, count=12)
    assert anchors
    assert all(anchor.subject in anchor.prompt for anchor in anchors)
    assert {anchor.subject for anchor in anchors} == set(SUBJECTS)
    assert anchors == make_anchors(kind, make_llama(), make_tokenizer(), rows, seed=3, count=12)
    if kind == "exchanged":
        asked = {f"Where in the world does {name} live?" for name in SUBJECTS}
        assert {anchor.prompt for anchor in anchors} <= asked
    else:
        assert len({anchor.prompt for anchor in anchors}) > len(rows)


def test_anchors_are_refused_where_prompts_do_not_name_their_subject(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sequences", "--world", "tofu", "--strategies", "retain-rows-exchanged"])
    with pytest.raises(SystemExit):
        sequences.main()
    assert "leave those strategies out" in capsys.readouterr().err


def test_measured_lines_carry_their_task(world, monkeypatch, tmp_path):
    monkeypatch.setattr(sequences, "make_world", lambda *_: world)
    monkeypatch.setitem(sequences.STRATEGIES, "two", TWO_EPOCHS)
    task = Task("demo", 3, "two", 1)
    sequences.measure(tmp_path, tmp_path / "lines.jsonl", task)
    assert [
        (line["world"], line["wanted"], line["strategy"], line["seed"]) for line in read(tmp_path / "lines.jsonl")
    ] == [("demo", 3, "two", 1)] * 4


def test_the_world_rows_fit_the_context(world):
    assert all(len(encode(row, world.tokenizer, 64)) == 1 for row in world.training)
