"""Which lines count, and the numbers that the tables and curves make of them."""

import math
import xml.etree.ElementTree as ET  # what is parsed was written two lines above

import pytest

from benchmarks.sequence_curves import PANELS, curve, plot
from benchmarks.sequence_lines import Task, finished, read, write
from benchmarks.sequences_summary import (
    by_strategy,
    by_study,
    cumulative_rows,
    exponent,
    mean_steps,
    spread,
    table,
)

TASK = Task("demo", 20, "a", 1)
KEPT = ("others", "others_held", "others_unseen", "utility", "control")
SVG = "{http://www.w3.org/2000/svg}"


def line(requests, exact=0.5, groups=("forgotten", "forgotten_held", *KEPT), **cost):
    level = {"asked": 4, "exact": exact, "probability": 0.25, "largest": 1e-3}
    cost = ({"steps": 10, "rows": 100, "seconds": 2.0} if requests else {}) | cost
    return {"requests": requests, **cost, "levels": dict.fromkeys(groups if requests else KEPT, level)}


def lines_of(strategy, seed, *lines):
    return [{"world": "demo", "wanted": 20, "strategy": strategy, "seed": seed, **one} for one in lines]


def test_a_sequence_is_finished_at_its_last_request_in_its_own_world_and_length(tmp_path):
    path = tmp_path / "lines.jsonl"
    write(path, TASK, line(19))
    write(path, Task("demo", 50, "a", 1), line(20))
    write(path, Task("tofu", 20, "a", 1), line(20))
    assert finished(path) == {Task("tofu", 20, "a", 1)}
    assert finished(tmp_path / "none.jsonl") == set()


def test_a_sequence_begun_anew_leaves_no_line_of_the_broken_one(tmp_path):
    path = tmp_path / "lines.jsonl"
    other = Task("demo", 20, "b", 1)
    for task, places in ((TASK, (0, 1, 2)), (other, (0, 1)), (TASK, (0, 1))):
        for at in places:
            write(path, task, line(at))
    assert [(one["strategy"], one["requests"]) for one in read(path)] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_worlds_and_lengths_are_studies_of_their_own():
    lines = [{"world": world, "wanted": wanted} for world, wanted in (("tofu", 20), ("demo", 50), ("demo", 20))]
    assert list(by_study(lines)) == [("demo", 20), ("demo", 50), ("tofu", 20)]


def test_a_seed_that_has_only_begun_does_not_count():
    lines = [*lines_of("a", 1, line(0), line(1)), *lines_of("a", 2, line(0)), *lines_of("b", 1, line(0))]
    assert {name: len(some) for name, some in by_strategy(lines).items()} == {"a": 2}
    assert by_strategy(lines, ["b"]) == {}


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_the_exponent_of_a_power_is_that_power(power):
    assert exponent([(n, 7 * n**power) for n in range(1, 21)]) == pytest.approx(power)


def test_the_exponent_worked_by_hand():
    # ln x: 0, ln 2, ln 4; ln y: 0, ln 4, ln 8. Slope = (ln 8 - 0) / (ln 4 - 0) = 3/2, the middle being the mean of x.
    assert exponent([(1, 1), (2, 4), (4, 8)]) == pytest.approx(math.log(8) / math.log(4))
    assert exponent([(1, 0), (2, 5)]) is None


def test_steps_are_of_a_request_and_rows_add_up():
    jobs = lines_of("a", 1, line(4, steps=8, rows=30), line(8, steps=40, rows=5))
    # Requests 1 to 4 took 2 steps each, 5 to 8 took 10.
    assert mean_steps(jobs) == ((4 * 2 + 10) / 5, (2 + 4 * 10) / 5)
    assert cumulative_rows(jobs) == [(4, 30), (8, 35)]


def test_a_spread_is_the_mean_in_its_range_if_it_has_any():
    assert [spread(some, "{:.1f}") for some in ([], [1.0], [1.0, 1.04], [1.0, 3.0])] == [
        "–",
        "1.0",
        "1.0",
        "2.0 (1.0–3.0)",
    ]


def test_the_table_reads_a_strategy_where_every_seed_asked_everybody():
    few = ("forgotten",)
    lines = [
        *lines_of("a", 1, line(0, 1.0), line(1, 0.5), line(2, 0.25, few)),
        *lines_of("a", 2, line(0, 1.0), line(1, 0.75, rows=300), line(2, 0.0, rows=500), line(3, 0.0, rows=100)),
    ]
    before, row = table(by_strategy(lines))[-2:]
    assert before == "| before | 1, 2 | 0 | – | – | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 / 0.250 | –, – | – |"
    # Seed 1: 100, 200 rows, exponent 1. Seed 2: 300, 800, 900.
    assert row.startswith(
        "| a | 1, 2 | 1 | 62.5 (50.0–75.0) / 0.250 / 1e-03 | 62.5 (50.0–75.0) / 0.250 / 1e-03 "
        "| 62.5 (50.0–75.0) | 62.5 (50.0–75.0) | 62.5 (50.0–75.0) | 62.5 (50.0–75.0) | 62.5 (50.0–75.0) / 0.250 "
        "| 10, 10 |"
    )


def test_a_curve_is_the_mean_and_range_of_seeds_where_all_were_asked():
    lines = [*lines_of("a", 1, line(5, 0.5), line(10, 0.25)), *lines_of("a", 2, line(5, 0.75))]
    assert curve(lines, "forgotten") == [(5, 0.625, 0.5, 0.75)]


def test_the_plot_has_a_line_for_each_strategy_in_each_panel_and_a_band_where_seeds_differ():
    lines = {
        "a": [*lines_of("a", 1, line(0, 1.0), line(20, 0.5)), *lines_of("a", 2, line(0, 1.0), line(20, 0.7))],
        "b & c": lines_of("b & c", 1, line(20, 0.0)),
    }
    drawn = ET.fromstring(plot(lines, 20))
    assert len(drawn.findall(f"{SVG}polyline")) == 2 * len(PANELS)
    assert drawn.findall(f"{SVG}polyline")[0].get("points") == "340.0,90.0"
    assert drawn.findall(f"{SVG}polyline")[2].get("points") == "380.0,30.0 680.0,90.0"
    bands = drawn.findall(f"{SVG}polygon")
    assert bands[1].get("points") == "380.0,30.0 680.0,105.0 680.0,75.0 380.0,30.0"
