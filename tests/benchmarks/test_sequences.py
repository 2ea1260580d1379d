"""What the sequence benchmark adds to the loop: who is kept, what anchors are about, and how lines become numbers."""

import xml.etree.ElementTree as ET  # what is parsed was written two lines above

import pytest

from benchmarks.sequence_strategies import STRATEGIES, make_anchors
from benchmarks.sequences import World, finished, kept_rows, read, write
from benchmarks.sequences_summary import curve, plot, table
from lethe.demo.corpus import make_corpus
from records.params import parse_parameters
from tests.make_llm import make_llama, make_tokenizer
from workers.examples import Example

SUBJECTS = ("Ada Qo", "Bo Ri")


def line(strategy, seed, requests, exact, seconds=2.0):
    groups = ("forgotten", "forgotten_held", "others", "others_held", "others_unseen", "utility", "control")
    level = {"asked": 4, "exact": exact, "probability": 0.25, "largest": 1e-3}
    return {
        "strategy": strategy,
        "seed": seed,
        "requests": requests,
        **({"seconds": seconds} if requests else {}),
        "levels": dict.fromkeys(groups if requests else groups[2:], level),
    }


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_names_parameters_its_method_has(name):
    strategy = STRATEGIES[name]
    assert parse_parameters(strategy.method, strategy.parameters).epochs >= 1


def test_whoever_asked_is_in_no_retain_row():
    corpus = make_corpus(1, people=8, controls=2, lands=4)
    world = World(1, corpus, None, None, corpus.people[:3], corpus.people[3:])
    before, after = ({row.subject for row in kept_rows(world, asked)} for asked in (0, 3))
    gone = {person.name for person in corpus.people[:3]}
    assert before & gone
    assert not after & gone


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


def test_a_sequence_counts_as_finished_at_its_last_request_only(tmp_path):
    path = tmp_path / "lines.jsonl"
    write(path, line("a", 1, 19, 0.5))
    write(path, line("b", 1, 20, 0.5))
    assert finished(path, 20) == {("b", 1)}
    write(path, line("a", 1, 19, 0.75))  # run again: the later line counts
    assert [one["levels"]["others"]["exact"] for one in read(path) if one["strategy"] == "a"] == [0.75]


def test_a_curve_is_the_mean_of_seeds_where_all_were_asked():
    lines = [line("a", 1, 5, 0.5), line("a", 2, 5, 0.75), line("a", 1, 10, 0.25)]
    assert curve(lines, "forgotten") == [(5, 0.625)]


def test_the_table_reads_a_strategy_where_every_seed_got_to():
    lines = [line("a", seed, at, exact) for seed in (1, 2) for at, exact in ((0, 1.0), (5, 0.5))] + [line("a", 1, 9, 0)]
    row = table(lines)[-1]
    assert row == (
        "| a | 1, 2 | 5 | 50.0 / 0.250 / 1e-03 | 50.0 / 0.250 / 1e-03 | 100.0 → 50.0 | 100.0 → 50.0 | 100.0 → 50.0 "
        "| 100.0 → 50.0 | 50.0 / 0.250 | 2.0, 2.0 |"
    )


def test_the_plot_has_a_line_for_each_strategy_in_each_panel():
    drawn = ET.fromstring(plot([line("a", 1, 0, 1.0), line("a", 1, 20, 0.5), line("b & c", 1, 20, 0.0)]))
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 8
    assert lines[0].get("points") == "340.0,105.0"
    assert lines[2].get("points") == "380.0,30.0 680.0,105.0"
