"""Where dots, lines and words lie. Positions worked by hand: 0 is at x 236, 1 at x 622, a group's line is 44 high."""

import itertools

import pytest

from records.report import GroupName, MetricName
from service.report_page.plots import BOTTOM, CHARACTER, ROW, TOP, WIDTH, level_of, plot, x_of
from tests.service.report_page.reading import Reading
from tests.service.report_page.reports import full_report, group

Box = tuple[float, float, float, float]


def boxes(reading: Reading) -> list[tuple[str, Box]]:
    """(words, (left, top, right, bottom)) of every text, at a generous width for each character."""
    words = [text for inside, text in reading.texts if inside == "text"]
    found = []
    for text, place in zip(words, reading.named("text"), strict=True):
        x, y, width = float(place["x"] or 0), float(place["y"] or 0), CHARACTER * len(text)
        left = {"start": x, "middle": x - width / 2, "end": x - width}[place["text-anchor"] or ""]
        found.append((text, (left, y - 12, left + width, y + 4)))
    return found


def test_no_words_leave_the_picture_or_cover_each_other():
    reading = Reading(plot(full_report().groups, MetricName.TOKEN_PROBABILITY))
    height = TOP + 8 * ROW + BOTTOM
    assert reading.named("svg")[0]["viewbox"] == f"0 0 {WIDTH:g} {height:g}"
    found = boxes(reading)
    assert len(found) == 3 + 5 + 2 * 8
    for words, (left, top, right, low) in found:
        assert left >= 0, words
        assert right <= WIDTH, words
        assert top >= 0, words
        assert low <= height, words
    for (one, a), (other, b) in itertools.combinations(found, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (one, other)


def test_dots_and_ranges_lie_at_their_numbers():
    reading = Reading(plot({GroupName.FORGET: group(0.5, 0.25, samples=20)}, MetricName.NLL))
    before, after = reading.named("circle")[2:]
    assert (before["cx"], before["cy"], before["class"]) == ("429.0", "58.0", "before")
    assert (after["cx"], after["cy"], after["class"]) == ("332.5", "74.0", "after")
    ranges = [line for line in reading.named("line") if "range" in (line["class"] or "")]
    assert [(line["x1"], line["x2"]) for line in ranges] == [("409.7", "448.3"), ("313.2", "351.8")]


def test_the_level_of_a_group_is_its_own_controls():
    groups = full_report().groups
    metric = MetricName.NLL
    assert level_of(GroupName.FORGET, groups, metric) == 0.062
    assert level_of(GroupName.FORGET_PARAPHRASES, groups, metric) == 0.12
    without = {name: one for name, one in groups.items() if name is not GroupName.CONTROL_PARAPHRASES}
    assert level_of(GroupName.FORGET_PARAPHRASES, without, metric) == 0.062
    assert level_of(GroupName.FORGET, {GroupName.FORGET: groups[GroupName.FORGET]}, metric) is None
    drawn = Reading(plot(groups, metric)).named("line")
    assert [line["x1"] for line in drawn if line["class"] == "level"][1:3] == ["259.9", "282.3"]


@pytest.mark.parametrize(("value", "x"), [(-1.0, 236.0), (0.0, 236.0), (0.5, 429.0), (1.0, 622.0), (7.0, 622.0)])
def test_a_number_outside_stays_at_the_edge(value, x):
    assert x_of(value) == x
