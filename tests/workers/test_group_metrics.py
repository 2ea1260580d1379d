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
        rows((numbers(1.0, exact=True), numbers(2.0)), (numbers(3.0, exact=True), numbers(6.0, exact=True))), 0
    )
    nll, exact = found[MetricName.NLL], found[MetricName.EXACT]
    assert (nll.before.value, nll.after.value, nll.change.value) == (2.0, 4.0, 2.0)
    # Two resampled subjects: the change lies between those of each, 1 and 3.
    assert (nll.change.low, nll.change.high) == (1.0, 3.0)
    assert (exact.before.value, exact.after.value, exact.change.value) == (1.0, 0.5, -0.5)
    # Clopper and Pearson, 2 of 2: the lower end is √0.025; 1 of 2: 1 - √0.975 and √0.975.
    assert exact.before.low == pytest.approx(0.025**0.5)
    assert (exact.after.low, exact.after.high) == pytest.approx((1 - 0.975**0.5, 0.975**0.5))


def test_a_metric_is_of_the_items_that_have_it_under_both():
    answered = {"answer_tokens": 0, "refused": True, "sampled_hits": 3, "greedy_extracted": False}
    half = numbers(1.0, repetition=0.25, **answered)
    found = group_metrics(rows((half, half), (numbers(1.0), half), (numbers(1.0), numbers(1.0))), 0)
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
