import math
import random

import pytest

from records.report import ItemNumbers, ItemRow, MetricName
from workers.group_metrics import group_metrics


def numbers(nll, **others):
    given = {"nll": nll, "token_probability": 0.5, "exact": False, "token_accuracy": 0.5}
    return ItemNumbers.model_validate(given | {"extraction_strength": 0.0, "sampled_probability": 0.1} | others)


def rows(*pairs):
    return [ItemRow(item=at, phrasing=0, subject=at, before=one, after=two) for at, (one, two) in enumerate(pairs)]


def test_means_and_rates_by_hand():
    found = group_metrics(
        rows((numbers(1.0, exact=True), numbers(2.0)), (numbers(3.0, exact=True), numbers(6.0, exact=True)))
    )
    nll, exact = found[MetricName.NLL], found[MetricName.EXACT]
    assert (nll.before.value, nll.after.value, nll.change.value) == (2.0, 4.0, 2.0)
    # The changes are 1 and 3: SE² = 2/1 · (1 + 1)/4 = 1; Student's t of one degree at 0.975 is tan(0.475π) = 12.706.
    reach = math.tan(0.475 * math.pi)
    assert (nll.change.low, nll.change.high) == pytest.approx((2 - reach, 2 + reach))
    assert (nll.before.low, nll.before.high) == pytest.approx((0.0, 2 + reach))  # no nat is below 0
    assert (exact.before.value, exact.after.value, exact.change.value) == (1.0, 0.5, -0.5)
    # Clopper and Pearson, 2 of 2: the lower end is √0.025; 1 of 2: 1 - √0.975 and √0.975.
    assert (exact.before.low, exact.before.high) == pytest.approx((0.025**0.5, 1.0))
    assert (exact.after.low, exact.after.high) == pytest.approx((1 - 0.975**0.5, 0.975**0.5))


def test_ten_rows_of_a_person_are_no_ten_people():
    """4 people of 10 rows each, all right of two of them, half of the others': SE² = 4/3 · 4·2.5² / 40² = 1/48."""
    right = [person < 2 or at < 5 for person in range(4) for at in range(10)]
    items = [numbers(1.0, exact=one) for one in right]
    same = [ItemRow(item=at, phrasing=0, subject=at // 10, before=one, after=one) for at, one in enumerate(items)]
    found = group_metrics(same)[MetricName.EXACT].after
    t_3 = 3.18245
    assert (found.value, found.low, found.high) == pytest.approx((0.75, 0.75 - t_3 / 48**0.5, 1.0), abs=1e-5)
    alone = [row.model_copy(update={"subject": row.item}) for row in same]
    binomial = group_metrics(alone)[MetricName.EXACT].after
    assert (binomial.low, binomial.high) == pytest.approx((0.5880, 0.8731), abs=1e-4)  # Clopper and Pearson, 30 of 40


def test_one_persons_rows_say_how_rows_vary_and_one_row_says_nothing():
    two = [
        ItemRow(item=at, phrasing=0, subject=0, before=numbers(nll), after=numbers(nll)) for at, nll in ((0, 1), (1, 3))
    ]
    found = group_metrics(two)[MetricName.NLL].after
    assert (found.low, found.high) == pytest.approx((0.0, 2 + math.tan(0.475 * math.pi)))
    alone = group_metrics(two[:1])[MetricName.NLL].after
    assert alone.low == alone.value == alone.high == 1.0


@pytest.mark.parametrize("people", [2, 5])
def test_an_interval_at_95_percent_holds_the_truth_about_that_often_with_few_people_too(people):
    """Resampled people would hold it in 47 % and 82 %."""
    rng = random.Random(people)
    held = 0
    for _ in range(400):
        items = []
        for person in range(people):
            level = rng.gauss(5.0, 1.0)
            items += [(person, numbers(level + rng.gauss(0.0, 0.5))) for _ in range(4)]
        drawn = [
            ItemRow(item=at, phrasing=0, subject=who, before=one, after=one) for at, (who, one) in enumerate(items)
        ]
        found = group_metrics(drawn)[MetricName.NLL].after
        held += found.low <= 5.0 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_a_metric_is_of_the_items_that_have_it_under_both():
    answered = {"answer_tokens": 0, "refused": True, "sampled_hits": 3, "greedy_extracted": False}
    half = numbers(1.0, repetition=0.25, **answered)
    found = group_metrics(rows((half, half), (numbers(1.0), half), (numbers(1.0), numbers(1.0))))
    for name, value in (
        (MetricName.REPETITION, 0.25),
        (MetricName.EMPTY, 1.0),
        (MetricName.REFUSAL, 1.0),
        (MetricName.SAMPLED_EXTRACTION, 1.0),
        (MetricName.GREEDY_EXTRACTION, 0.0),
    ):
        assert (found[name].n_items, found[name].before.value, found[name].change.value) == (1, value, 0.0)
    assert found[MetricName.NLL].n_items is None
    assert MetricName.TRUTH_SHARE not in found
