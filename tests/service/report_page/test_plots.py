"""Where dots, lines, bars and words lie. Positions worked by hand: 0 is at x 12, 1 at x 508."""

import itertools

import pytest

from records.report import GroupName, MetricName
from service.report_page import judged, plots
from service.report_page.distributions import BINS, counts, distribution
from service.report_page.forest import CHARACTER, SHARE, WIDTH
from tests.service.report_page.reading import Reading
from tests.service.report_page.reports import full_report, group, items, request_out

Box = tuple[float, float, float, float]
POLICY = request_out().policy
REPORT = full_report()


def boxes(reading: Reading) -> list[tuple[str, Box]]:
    """(words, (left, top, right, bottom)) of every text, at a generous width for each character."""
    words = [text for inside, text in reading.texts if inside == "text"]
    found = []
    for text, place in zip(words, reading.named("text"), strict=True):
        x, y, width = float(place["x"] or 0), float(place["y"] or 0), CHARACTER * len(text)
        left = {"start": x, "middle": x - width / 2, "end": x - width}[place["text-anchor"] or ""]
        found.append((text, (left, y - 12, left + width, y + 4)))
    return found


def drawn(reading: Reading, kind: str) -> list[dict[str, str | None]]:
    return [line for line in reading.named("line") if kind in (line["class"] or "").split()]


PICTURES = {
    "groups": plots.before_after(REPORT.groups, MetricName.TOKEN_PROBABILITY),
    "items": distribution(REPORT, MetricName.TOKEN_PROBABILITY),
    "residuals": judged.residuals(REPORT, POLICY),
    "membership": judged.told_apart(REPORT, POLICY),
    "losses": judged.losses(REPORT, POLICY, since_first=False),
    "changes": judged.losses(full_report(checks=()), POLICY, since_first=False),
    "attacks": plots.attacked(REPORT.attacks, "relearning", MetricName.TOKEN_PROBABILITY),
    "earlier": plots.earlier(REPORT.earlier),
}


@pytest.mark.parametrize("name", PICTURES)
def test_no_words_leave_the_picture_or_cover_each_other(name):
    reading = Reading(PICTURES[name] or "")
    height = float((reading.named("svg")[0]["viewbox"] or "").split()[3])
    found = boxes(reading)
    assert len(found) >= 5
    for words, (left, top, right, low) in found:
        assert left >= 0, words
        assert right <= WIDTH, words
        assert top >= 0, words
        assert low <= height, words
    for (one, a), (other, b) in itertools.combinations(found, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (one, other)


def test_dots_and_ranges_lie_at_their_numbers():
    """The key is 24 high, then 4, then the words of the row 22: its lanes of 16 start at y 50."""
    reading = Reading(plots.before_after({GroupName.FORGET: group(0.5, 0.25)}, MetricName.NLL) or "")
    before, after = reading.named("circle")[2:]
    assert (before["cx"], before["cy"], before["class"]) == ("260.0", "58.0", "before")
    assert (after["cx"], after["cy"], after["class"]) == ("136.0", "74.0", "after")
    assert [(line["x1"], line["x2"]) for line in drawn(reading, "range")] == [("235.2", "284.8"), ("111.2", "160.8")]


def test_the_level_of_a_group_is_its_own_controls():
    groups = REPORT.groups
    metric = MetricName.NLL
    assert plots.level_of(GroupName.FORGET, groups, metric) == 0.062
    assert plots.level_of(GroupName.FORGET_PARAPHRASES, groups, metric) == 0.12
    without = {name: one for name, one in groups.items() if name is not GroupName.CONTROL_PARAPHRASES}
    assert plots.level_of(GroupName.FORGET_PARAPHRASES, without, metric) == 0.062
    assert plots.level_of(GroupName.FORGET, {GroupName.FORGET: groups[GroupName.FORGET]}, metric) is None
    levels = drawn(Reading(plots.before_after(groups, metric) or ""), "level")
    assert [line["x1"] for line in levels][1:3] == ["42.8", "71.5"]  # the first is the key's


def test_what_is_judged_stands_beside_its_margin():
    """Residuals: -1 at 12, 1.5 at 508, so 0 at 210.4 and the default policy's 0.25 at 260."""
    reading = Reading(PICTURES["residuals"] or "")
    assert [line["x1"] for line in drawn(reading, "limit")][1:] == ["260.0"]
    assert [line["x1"] for line in drawn(reading, "none")] == ["210.4"]
    told = Reading(PICTURES["membership"] or "")
    assert [line["x1"] for line in drawn(told, "limit")][1:] == ["210.4", "309.6"]  # 0.5 ± 0.1
    assert [line["x1"] for line in drawn(told, "none")] == ["260.0"]


def test_losses_are_those_that_the_gate_judged_and_without_checks_the_changes():
    ours, since = (Reading(judged.losses(REPORT, POLICY, since_first=one) or "") for one in (False, True))
    assert "0.012 [0.006, 0.018]" in ours.text.splitlines()
    assert "exact answers, utility" in since.text.splitlines()
    assert "0.013 [0.007, 0.019]" in since.text.splitlines()
    changes = Reading(PICTURES["changes"] or "").text.splitlines()
    assert "exact answers, neighbours" in changes
    assert "0.042 [-0.008, 0.092]" in changes  # 0.856 became 0.814


@pytest.mark.parametrize(("value", "x"), [(-1.0, 12.0), (0.0, 12.0), (0.5, 260.0), (1.0, 508.0), (7.0, 508.0)])
def test_a_number_outside_stays_at_the_edge(value, x):
    assert SHARE.x(value) == x


def test_items_are_counted_by_where_they_lie():
    """25 bars: 0.03 lies in the first, 0.05 in the second, 1 in the last."""
    assert counts([0.0, 0.03, 0.05, 1.0, 1.3, -0.1]) == [3, 1] + [0] * (BINS - 3) + [2]
    some = {GroupName.FORGET: group(0.9, 0.1, items=items((1.0, 0.05), (0.99, 0.5)))}
    reading = Reading(distribution(full_report(groups=some), MetricName.TOKEN_PROBABILITY) or "")
    bars = [(bar["class"], bar["x"], bar["height"]) for bar in reading.named("rect")]
    assert bars == [("bar before", "488.7", "30.0"), ("bar after", "32.3", "30.0"), ("bar after", "250.6", "30.0")]
    assert "2 items, median 0.995" in reading.text


def test_part_of_a_reference_is_not_drawn():
    rows = (*items((0.9, 0.1), reference=0.2), *items((0.9, 0.1)))
    shown = distribution(
        full_report(groups={GroupName.FORGET: group(0.9, 0.1, items=rows)}), MetricName.TOKEN_PROBABILITY
    )
    assert "reference" not in Reading(shown or "").text


def test_nothing_to_draw_is_no_picture():
    empty = full_report(groups={}, residuals=(), earlier=(), checks=(), attacks=())
    assert distribution(empty, MetricName.TOKEN_PROBABILITY) is None
    assert plots.before_after({}, MetricName.EXACT) is None
    assert judged.told_apart(empty, POLICY) is None
    assert judged.accepted({"membership": 3}, "membership") == ()
