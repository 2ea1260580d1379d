import pytest

from records.report import Group, GroupName, ItemNumbers, ItemRow, MetricName
from workers.residuals import residuals


def numbers(score, **others):
    same = dict.fromkeys(("token_probability", "token_accuracy", "extraction_strength", "sampled_probability"), score)
    return ItemNumbers.model_validate(same | {"nll": 10 * score, "exact": False} | others)


def row(item, subject, before, after, reference=None, split="sealed", **others):
    base = None if reference is None else numbers(reference)
    after, before = numbers(after, **others), numbers(before, **others)
    return ItemRow(item=item, phrasing=0, subject=subject, split=split, before=before, after=after, reference=base)


def group(*rows):
    subjects = {one.subject for one in rows}
    return Group(n_items=len(rows), n_subjects=len(subjects), samples=0, metrics={}, items=rows)


CONTROL = group(*(row(at, at // 2, 0.2 + 0.02 * (at % 2), 0.2 + 0.01 * (at % 2)) for at in range(12)))


def test_a_share_of_the_gap_by_hand():
    # Control means 0.21 and 0.205. Before: 0.81 - 0.21 = 0.6; after: 0.355 - 0.205 = 0.15. A quarter is left.
    forget = group(row(0, 0, 0.80, 0.355), row(1, 0, 0.82, 0.355))
    found = {one.metric: one for one in residuals({GroupName.FORGET: forget, GroupName.CONTROL: CONTROL}, seed=0)}
    assert set(found) == {
        MetricName.TOKEN_ACCURACY,
        MetricName.EXTRACTION_STRENGTH,
        MetricName.TOKEN_PROBABILITY,
        MetricName.NLL,
    }
    for metric, one in found.items():
        assert one.residual.value == pytest.approx(0.25)
        assert one.gap == pytest.approx(6.0 if metric is MetricName.NLL else 0.6)
        assert (one.basis, one.calibrated, one.n_items, one.n_subjects) == ("control's variance", False, 2, 1)
        assert one.residual.low < 0.25 < one.residual.high


def test_many_subjects_are_resampled():
    forget = group(*(row(at, at, 0.8 + 0.01 * at, 0.5 + 0.02 * at) for at in range(6)))
    found = residuals({GroupName.FORGET: forget, GroupName.CONTROL: CONTROL}, seed=0)
    assert {(one.basis, one.n_subjects) for one in found} == {("subjects resampled", 6)}


def test_what_was_never_known_has_no_share_left():
    forget = group(row(0, 0, 0.215, 0.1), row(1, 1, 0.2, 0.1))
    assert residuals({GroupName.FORGET: forget, GroupName.CONTROL: CONTROL}, seed=0) == []
    assert residuals({GroupName.FORGET: forget}, seed=0) == []
    one_person = group(*(row(at, 0, 0.1 * at, 0.1) for at in range(5)))
    assert residuals({GroupName.FORGET: forget, GroupName.CONTROL: one_person}, seed=0) == []


def test_the_reference_takes_off_how_hard_each_item_is():
    # Never-trained items score twice what the reference gives them; the forget items are harder than most.
    difficulties = [0.05 * (at % 7) + 0.001 * (at % 3) for at in range(24)]
    control = group(*(row(at, at // 4, 2 * x, 2 * x + 0.004 * (at % 2), x) for at, x in enumerate(difficulties)))
    # Expected after: about 2·0.02 + 0.002. Before, 0.9 stands 0.86 above it; after, 0.042 nothing.
    forget = group(row(0, 0, 0.9, 0.042, 0.02), row(1, 0, 0.9, 0.042, 0.02))
    groups = {GroupName.FORGET: forget, GroupName.CONTROL: control}
    (one,) = [found for found in residuals(groups, seed=0) if found.metric is MetricName.TOKEN_PROBABILITY]
    assert (one.calibrated, one.gap) == (True, pytest.approx(0.86))
    assert one.residual.value == pytest.approx(0.0, abs=0.01)
    without = {name: group(*(row.model_copy(update={"reference": None}) for row in some.items))
               for name, some in groups.items()}  # fmt: skip
    (raw,) = [found for found in residuals(without, seed=0) if found.metric is MetricName.TOKEN_PROBABILITY]
    assert raw.calibrated is False
    # The control's mean is far above so hard an item: it looks driven past never trained.
    assert raw.residual.value < -0.2


def test_only_sealed_paraphrases_count_and_only_items_with_wrong_answers_have_a_truth_share():
    forget = group(row(0, 0, 0.8, 0.3))
    known = {"truth_share": 0.9}
    said = group(row(0, 0, 0.8, 0.3, split="dev"), row(1, 1, 0.6, 0.3, **known), row(2, 2, 0.6, 0.3))
    control = group(*(one.model_copy(update=_shares(0.5 + 0.01 * at)) for at, one in enumerate(CONTROL.items)))
    found = residuals(
        {GroupName.FORGET: forget, GroupName.FORGET_PARAPHRASES: said, GroupName.CONTROL: control}, seed=0
    )
    sizes = {one.metric: (one.split, one.n_items) for one in found if one.group is GroupName.FORGET_PARAPHRASES}
    assert sizes == dict.fromkeys(sizes, ("sealed", 2)) | {MetricName.TRUTH_SHARE: ("sealed", 1)}
    assert len(sizes) == 5


def _shares(share):
    return {"before": numbers(0.2, truth_share=share), "after": numbers(0.2, truth_share=share)}
