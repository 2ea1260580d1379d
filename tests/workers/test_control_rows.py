"""Which control rows are asked: few of each of many people, however large the dataset."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.parts import Parts
from tests.workers.conftest import make_model, make_request, planned, put_dataset
from workers.control_rows import ROWS_OF_ONE, drawn_control
from workers.evaluation.calibration import fit_reference, mean_departure
from workers.examples import Example

COUNT = 120


def people(count: int, rows: int) -> list[Example]:
    return [Example(text=f"{person} did {row}", subject=f"p{person}") for row in range(rows) for person in range(count)]


def drawn(rows: list[Example], seed: int = 0, count: int = COUNT) -> list[Example]:
    return drawn_control(rows, lambda one: one.subject, count, seed)


@pytest.mark.parametrize(
    ("count", "rows", "of_each"),
    [(2000, 10, ROWS_OF_ONE), (24, 5, 5), (20, 10, 6), (3, 1000, 40), (1, 500, 120)],
)
def test_of_each_person_as_many_rows(count: int, rows: int, of_each: int) -> None:
    found = Counter(one.subject for one in drawn(people(count, rows)))
    assert set(found.values()) == {of_each}
    assert sum(found.values()) == COUNT


@given(sizes=st.lists(st.integers(1, 12), max_size=20), nobody=st.integers(0, 20), count=st.integers(1, 40))
def test_they_are_rows_of_the_dataset_in_its_order(sizes: list[int], nobody: int, count: int) -> None:
    rows = [Example(text=f"{who} {at}", subject=f"p{who}") for who, size in enumerate(sizes) for at in range(size)]
    rows += [Example(text=f"nobody's {at}") for at in range(nobody)]
    found = drawn(rows, 1, count)
    places = [rows.index(one) for one in found]
    assert places == sorted(set(places))
    assert len(found) == min(count, len(rows))


def test_the_seed_decides_and_others_may_come_and_go() -> None:
    rows = people(500, 4)
    assert drawn(rows) == drawn(rows) != drawn(rows, seed=1)
    chosen = {one.subject for one in drawn(rows)}
    gone = [one for one in rows if one.subject in chosen or int((one.subject or "p0")[1:]) % 2]
    assert {one.subject for one in drawn(gone)} == chosen


def test_a_larger_control_tells_no_less_of_one_person() -> None:
    """Half the 90 % interval of one person's mean over ten rows, rows and people varying as TOFU's do."""
    rng = np.random.default_rng(0)
    widths = []
    for count in (24, 500):
        halves = []
        for seed in range(9):
            whom = [one.subject for one in drawn(people(count, 5), seed)]
            effects = dict(zip(sorted(set(whom)), rng.normal(size=len(set(whom))), strict=True))
            scores = np.array([0.32 * effects[one] for one in whom]) + 0.67 * rng.normal(size=len(whom))
            fitted = fit_reference(scores, None, whom)
            low, high = mean_departure(fitted, rng.normal(size=10), None, [0] * 10).interval(0.9)
            halves.append((high - low) / 2)
        widths.append(float(np.median(halves)))
    assert widths[1] < 1.15 * widths[0]


def test_a_job_asks_several_rows_of_each_control_person(parts: Parts) -> None:
    made = make_model(parts)
    control = [{"text": f"p{who} did {at}", "subject": f"p{who}"} for at in range(5) for who in range(100)]
    put_dataset(parts, made, "control", control)
    make_request(parts, made, [{"text": "Ada did it", "subject": "Ada"}])
    found = Counter(one.subject for one in planned(parts, made).probes.control)
    assert sorted(found.values()) == [ROWS_OF_ONE] * (COUNT // ROWS_OF_ONE)
