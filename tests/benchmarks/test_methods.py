"""What the methods' benchmark adds to the loop: who is retained, who is asked, and how lines become statements."""

import xml.etree.ElementTree as ET  # what is parsed was written two lines above
from argparse import Namespace

import pytest

from benchmarks.methods import (
    ARMS,
    FACTS,
    VARIANTS,
    Run,
    World,
    finished,
    levels,
    planned,
    work_of,
    write,
)
from benchmarks.methods_plot import plot_curves, plot_plane
from benchmarks.methods_summary import (
    LEFT_BAND,
    UTILITY_BAND,
    best,
    duel,
    grid,
    main,
    points,
    sound_decades,
    statements,
)
from benchmarks.tofu import Author
from records.params import ENTRIES, parse_parameters
from tests.make_llm import CITIES, FIRST, make_llama, make_tokenizer
from workers.examples import Example, Phrasing

GROUPS = (
    "forget",
    "forget_paraphrased",
    "kept",
    "kept_paraphrased",
    "others",
    "others_paraphrased",
    "facts",
    "control",
)


def author(name, city):
    phrasing = Phrasing(f"the home of {name} is", f" {city}")
    row = Example(prompt=f"Where does {name} live ?", completion=f" {city}", subject=name, paraphrases=(phrasing,))
    return Author(name, (row,))


@pytest.fixture
def world():
    people = [author(name, city) for name, city in zip(FIRST, CITIES, strict=True)]
    facts = tuple(Example(prompt="What is", completion=f" {city}", subject="fact") for city in CITIES * 4)[:FACTS]
    llm = make_llama()
    return World(
        1, make_tokenizer(), llm, llm, (people[0],), tuple(people[1:4]), tuple(people[4:7]), (people[8],), facts
    )


def line(arm, method, rate, forget, kept, seed=1):
    """A measured line: the same for the forgotten in both wordings, the same for everybody else."""
    told = {group: forget if group.startswith("forget") else kept for group in GROUPS}
    found = {group: {"asked": 4, "exact": p, "probability": p, "largest": p / 10} for group, p in told.items()}
    run = {"arm": arm, "method": method, "learning_rate": rate, "seed": seed, "levels": found}
    return run if arm in {"base", "oracle"} else {**run, "steps": 9, "seconds": 1.0, "stopped": "the limit of 9 steps"}


def references(seed=1):
    return [line("base", "none", 0.0, 0.9, 0.9, seed), line("oracle", "none", 0.0, 0.1, 0.8, seed)]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_run_names_parameters_its_method_has(world, name, arm):
    work = work_of(world, Run(arm, name, 1e-3, 7))
    settings = parse_parameters(work.method, work.parameters)
    assert (settings.learning_rate, settings.seed) == (1e-3, 7)
    assert getattr(settings, "ceiling", None) is None or arm == "stopped"


def test_every_method_is_measured():
    assert {variant.method for variant in VARIANTS.values()} == set(ENTRIES)


def test_nobody_in_a_retain_dataset_is_asked_as_another(world):
    work = work_of(world, Run("stopped", "npo", 1e-4, 1))
    assert {row.subject for row in work.retain} == {one.key for one in world.kept}
    assert {row.subject for row in work.forget} == {one.key for one in world.forget}


def test_a_method_of_general_text_retains_facts_that_are_not_asked(world):
    work = work_of(world, Run("stopped", "ascent_kl_general", 1e-4, 1))
    assert list(work.retain) == list(world.facts[: FACTS // 2])
    assert levels(world, world.base)["facts"]["asked"] == FACTS - FACTS // 2


def test_paraphrases_are_asked_but_not_trained_on(world):
    work = work_of(world, Run("stopped", "undial", 1e-4, 1))
    assert not any(row.paraphrases for row in work.forget)
    assert not work.dev_probes
    found = levels(world, world.base)
    assert set(found) == set(GROUPS)
    assert found["others_paraphrased"]["asked"] == 3


def test_what_was_measured_is_not_planned_again(tmp_path, capsys):
    chosen = Namespace(seeds=[1], arms=["fixed"], methods=["npo"], rates=[1e-4, 1e-3])
    runs = planned(chosen)
    assert [run.arm for run in runs] == ["base", "oracle", "fixed", "fixed"]
    write(tmp_path / "lines.jsonl", line("fixed", "npo", 1e-3, 0.2, 0.8))
    assert "npo" in capsys.readouterr().out
    assert set(runs) - finished(tmp_path / "lines.jsonl") == set(runs[:3])


def test_a_point_is_counted_from_its_own_seeds_oracle():
    lines = [*references(1), *references(2)]
    lines += [line("fixed", "npo", 1e-4, 0.14, 0.76, 1), line("fixed", "npo", 1e-4, 0.05, 0.9, 2)]
    (point,) = points(lines)
    assert point.left == pytest.approx((0.04, -0.05))
    assert point.loss == pytest.approx((0.04, -0.1))
    assert point.miss == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("forget", "kept", "inside", "ruined"),
    [
        (0.14, 0.76, True, False),  # 0.04 too much is left, 0.04 of utility is lost
        (0.16, 0.80, False, False),  # too much is left
        (0.10, 0.74, False, False),  # too much is lost
        (0.04, 0.80, False, False),  # more is gone than a retrained LLM would lack
        (0.10, 0.44, False, True),  # under half of 0.9
    ],
)
def test_the_band_and_the_collapse(forget, kept, inside, ruined):
    (point,) = points([*references(), line("fixed", "npo", 1e-4, forget, kept)])
    assert (point.in_band, point.collapsed) == (inside, (ruined,))


def test_one_seed_outside_the_band_is_enough():
    lines = [*references(1), *references(2)]
    lines += [line("fixed", "npo", 1e-4, 0.1, 0.8, 1), line("fixed", "npo", 1e-4, 0.1, 0.4, 2)]
    (band, ruined) = statements(points(lines))
    assert band == "In the oracle's band with every seed: none."
    assert ruined == "Collapsed (seeds): npo at 1e-04 (1 of 2)."


def test_the_wording_that_is_farther_from_the_oracle_counts():
    measured = line("fixed", "npo", 1e-4, 0.1, 0.8)
    measured["levels"]["forget_paraphrased"]["probability"] = 0.5
    (point,) = points([*references(), measured])
    assert point.left == pytest.approx((0.4,))


def test_an_llm_that_says_nothing_any_more_collapsed():
    lost = {**line("fixed", "npo", 1e-4, 0.1, 0.8), "levels": {}}
    (point,) = points([*references(), lost])
    assert point.collapsed == (True,)
    assert best([point])[2:] == []


def duelling(undial_at_top):
    lines = references()
    for rate in (1e-5, 1e-4, 1e-3, 1e-2):
        lines.append(line("fixed", "undial_alone", rate, 0.1, undial_at_top if rate == 1e-2 else 0.8))
        lines.append(line("fixed", "gradient_ascent", rate, 0.1, 0.8 if rate == 1e-5 else 0.1))
    return points(lines)


@pytest.mark.parametrize(("undial_at_top", "claim"), [(0.8, "holds"), (0.2, "does not hold")])
def test_the_claim_of_three_decades_is_computed(undial_at_top, claim):
    (said,) = duel(duelling(undial_at_top))
    assert said.endswith(f"the claim {claim} here.")
    assert "over 0 with gradient_ascent" in said


def test_decades_end_at_the_first_collapse():
    found = duelling(0.2)
    assert sound_decades([point for point in found if point.method == "undial_alone"]) == 2
    assert sound_decades([point for point in found if point.learning_rate == 1e-2]) == -1


def test_a_cell_says_what_is_left_and_what_is_kept():
    found = points([*references(), line("fixed", "npo", 1e-4, 0.12, 0.78), line("fixed", "wga", 1e-3, 0.1, 0.2)])
    assert grid(found)[2:] == ["| `npo` | **+0.02 / 0.78** |  |", "| `wga` |  | +0.00 / 0.20 † |"]


@pytest.mark.parametrize("measured", [[], [line("fixed", "npo", 1e-4, 0.1, 0.8)]])
def test_without_points_no_plot_is_overwritten(tmp_path, monkeypatch, capsys, measured):
    for one in measured:  # its seed's base and oracle are missing
        write(tmp_path / "lines.jsonl", one)
    monkeypatch.setattr("sys.argv", ["summary", "--lines", str(tmp_path / "lines.jsonl"), "--plots", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "make bench-methods" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.svg"))


def test_both_plots_are_whole():
    found = duelling(0.2)
    plane, curves = (ET.fromstring(text) for text in (plot_plane(found, LEFT_BAND, UTILITY_BAND), plot_curves(found)))
    circles = plane.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == len(found) + 4 + 2  # the points, the key of the step sizes, the key of the methods
    assert len(curves.findall("{http://www.w3.org/2000/svg}polyline")) == 2 * 2 * 2
