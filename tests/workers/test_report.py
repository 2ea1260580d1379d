"""Measuring and reporting on an LLM that has really memorised a few people."""

import dataclasses

import pytest
import torch

from records.report import GroupName, MetricName, OwnTime, Report
from tests.make_llm import make_llama
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from workers.errors import Cancelled, Diverged
from workers.examples import Example, Phrasing
from workers.loop import UnlearnWork, unlearn
from workers.report import (
    MeasureSettings,
    Probes,
    build_report,
    measure,
    measure_reference,
    measure_staying,
    split_probes,
)

torch.set_num_threads(1)

FORGET = people(TRAINED[:2])
SETTINGS = MeasureSettings(samples=5, seed=3)


def probes(**changes):
    dev, sealed = split_probes(FORGET, seed=3)
    return Probes(
        **{
            "forget": FORGET,
            "dev": dev,
            "sealed": sealed,
            "control": people(NEVER_TRAINED),
            "retain": people(TRAINED[2:]),
            "earlier": {"req-1": people(TRAINED[8:9])},
        }
        | changes
    )


@pytest.fixture(scope="module")
def report():
    llm, tokenizer = memorised()
    before = measure(llm, tokenizer, probes(), SETTINGS)
    work = UnlearnWork(
        forget=both_phrasings(FORGET),
        retain=both_phrasings(people(TRAINED[2:])),
        control_level=before.control_level(),
        parameters={"learning_rate": 1e-3, "target": "floor", "stop_ratio": 3.0, "epochs": 60},
    )
    summary = unlearn(llm, tokenizer, work, lambda progress: None)
    after = measure(llm, tokenizer, probes(), SETTINGS)
    return build_report(
        before,
        after,
        method="undial",
        parameters=work.parameters,
        seeds={"split": 3},
        training={"steps": summary.steps},
    )


def test_the_split_is_by_item_and_by_seed():
    dev, sealed = split_probes(FORGET, seed=3)
    assert {one.item for one in dev} | {one.item for one in sealed} == {0, 1, 2, 3}
    assert not {one.item for one in dev} & {one.item for one in sealed}
    assert (dev, sealed) == split_probes(FORGET, seed=3)
    assert any(split_probes(FORGET, seed=other)[0] != dev for other in range(8))
    assert len(split_probes(FORGET[:1], seed=0)[1]) == 1


def test_given_paraphrases_replace_the_examples_own():
    bare = [Example(prompt="p", completion=" c", sensitive=("c",))]
    dev, sealed = split_probes(bare, [[Phrasing("q", " c"), Phrasing("r", " c")]], seed=0)
    assert dev == []
    assert [(one.phrasing, one.example.prompt, one.example.sensitive) for one in sealed] == [
        (1, "q", ("c",)),
        (2, "r", ("c",)),
    ]
    with pytest.raises(ValueError, match="one list each"):
        split_probes(bare, [])


def test_before_and_after_are_told_apart(report):
    forget = report.groups[GroupName.FORGET]
    assert (forget.n_items, forget.n_subjects, forget.samples) == (4, 2, 5)
    exact = forget.metrics[MetricName.EXACT]
    assert (exact.before.value, exact.after.value, exact.change.value) == (1.0, 0.0, -1.0)
    for name in (MetricName.GREEDY_EXTRACTION, MetricName.SAMPLED_EXTRACTION):
        assert forget.metrics[name].before.value == 1.0
        assert forget.metrics[name].after.value < 1.0
    assert report.groups[GroupName.CONTROL].metrics[MetricName.EXACT].before.value == 0.0
    assert report.groups[GroupName.RETAIN].metrics[MetricName.EXACT].before.value == 1.0


def test_every_group_and_row_is_there(report):
    assert set(report.groups) == {
        GroupName.FORGET,
        GroupName.FORGET_PARAPHRASES,
        GroupName.CONTROL,
        GroupName.CONTROL_PARAPHRASES,
        GroupName.RETAIN,
        GroupName.RETAIN_PARAPHRASES,
    }
    rows = report.groups[GroupName.FORGET_PARAPHRASES].items
    assert sorted(row.split for row in rows) == ["dev", "dev", "sealed", "sealed"]
    assert all(row.phrasing == 1 for row in rows)
    retain, aside = report.groups[GroupName.RETAIN], report.groups[GroupName.RETAIN_PARAPHRASES]
    assert (retain.samples, retain.metrics[MetricName.REFUSAL].after.value) == (0, 0.0)  # asked greedily
    assert MetricName.GREEDY_EXTRACTION not in aside.metrics
    assert MetricName.SAMPLED_EXTRACTION not in retain.metrics


def test_every_number_of_a_row_is_filled(report):
    unknown = {"truth_share", "extraction_likelihood", "exposure"}  # no wrong answers, none longer than ten tokens
    generated = {"greedy_extracted", "sampled_hits", "verbatim_run", "rouge_recall", "rouge_f1"}
    generated |= {"answer_tokens", "refused", "repetition", "token_entropy"}
    for name, missing in (("forget", unknown), ("retain_paraphrases", unknown | generated)):
        for row in report.groups[GroupName(name)].items:
            numbers = row.before.model_dump()
            assert {field for field, value in numbers.items() if value is None} == missing
    (known, *_) = report.groups[GroupName.FORGET].items
    assert (known.before.verbatim_run, known.before.answer_tokens, known.before.rouge_f1) == (3, 3, 1.0)
    assert known.after.rouge_recall < 1.0
    assert known.before.zlib < known.after.zlib
    assert known.before.min_k_plus_plus < known.after.min_k_plus_plus


def test_means_are_means_of_the_rows(report):
    for group in report.groups.values():
        for when in ("before", "after"):
            mean = sum(getattr(row, when).nll for row in group.items) / group.n_items
            assert getattr(group.metrics[MetricName.NLL], when).value == pytest.approx(mean)
        for paired in group.metrics.values():
            for one in (paired.before, paired.after, paired.change):
                assert one.low - 1e-9 <= one.value <= one.high + 1e-9


def test_residuals_by_hand(report):
    forget, control = report.groups[GroupName.FORGET], report.groups[GroupName.CONTROL]
    (one,) = [r for r in report.residuals if r.group == GroupName.FORGET and r.metric == MetricName.TOKEN_PROBABILITY]
    numbers = [g.metrics[MetricName.TOKEN_PROBABILITY] for g in (forget, control)]
    expected = (numbers[0].after.value - numbers[1].after.value) / (numbers[0].before.value - numbers[1].before.value)
    assert one.residual.value == pytest.approx(expected)
    assert one.residual.low <= one.residual.value <= one.residual.high
    sealed = [r for r in report.residuals if r.group == GroupName.FORGET_PARAPHRASES]
    assert {(r.split, r.n_items) for r in sealed} == {("sealed", 2)}


def test_earlier_requests_are_asked_again(report):
    (one,) = report.earlier
    assert (one.request_id, one.n_items, one.before.exact) == ("req-1", 4, 4)
    assert one.after.exact <= 4


@pytest.mark.parametrize(("n_items", "known"), [(4, True), (5, False)])
def test_an_own_time_of_other_rows_is_none(report, n_items, known):
    llm, tokenizer = memorised()
    asked = measure(llm, tokenizer, probes(), SETTINGS)
    own = OwnTime(version=2, n_items=n_items, numbers=report.earlier[0].after)
    made = build_report(asked, asked, method="undial", parameters={}, seeds={}, own_times={"req-1": own})
    assert made.earlier[0].own_time == (own if known else None)


def test_a_report_holds_no_text_and_survives_json(report):
    text = report.model_dump_json()
    for word in ("Ada", "Bo", "Where", "Oslo", FORGET[0].completion.strip()):
        assert word not in text
    assert Report.model_validate_json(text) == report


def test_missing_sets_are_said_and_large_ones_sampled():
    llm, tokenizer = memorised()
    alone = probes(control=(), retain=people(TRAINED[2:]), earlier={}, dev=(), sealed=())
    measured = measure(llm, tokenizer, alone, MeasureSettings(samples=1, max_items=5))
    assert measured.control_level() is None
    assert len(measured.groups[GroupName.RETAIN]) == 5
    report = build_report(measured, measured, method="undial", parameters={}, seeds={})
    assert report.residuals == ()
    for words in ("5 of 14 retain rows", "no control", "no utility", "no paraphrase"):
        assert any(words in note for note in report.notes), words


def test_a_reference_and_the_first_version_stand_beside_the_two():
    llm, tokenizer = memorised()
    before = measure(llm, tokenizer, probes(), SETTINGS)
    never = make_llama(vocabulary=len(tokenizer))
    reference = measure_reference(never, tokenizer, probes(), SETTINGS)
    first = measure_staying(never, tokenizer, probes(), SETTINGS)
    made = build_report(before, before, method="undial", parameters={}, seeds={}, reference=reference, first=first)
    assert set(reference.groups) == {name for name in made.groups if name not in made.since_first}
    for group in reference.groups:
        numbers = [row.reference for row in made.groups[group].items]
        assert numbers == [row.numbers for row in reference.groups[group]]
        assert all(one.greedy_extracted is None for one in numbers)
    assert all(row.reference is None for row in made.groups[GroupName.RETAIN].items)
    (retain, _) = (made.since_first[GroupName.RETAIN], made.since_first[GroupName.RETAIN_PARAPHRASES])
    exact = retain.metrics[MetricName.EXACT]
    assert (exact.before.value, exact.after.value) == (0.0, 1.0)
    assert MetricName.REFUSAL not in retain.metrics  # the first version was not asked to answer
    assert set(made.seconds) == {"measure_before", "measure_after", "measure_reference", "measure_first"}


def test_a_reference_that_cannot_take_a_row_leaves_it_without():
    llm, tokenizer = memorised()
    long = Example(prompt="Where does Ada live? " * 9, completion=FORGET[0].completion)
    some = Probes(forget=[FORGET[0], long])
    measured = measure(llm, tokenizer, some, SETTINGS)
    short = dataclasses.replace(SETTINGS, context_tokens=20)
    reference = measure_reference(llm, tokenizer, some, short)
    made = build_report(measured, measured, method="undial", parameters={}, seeds={}, reference=reference)
    assert [row.reference is None for row in made.groups[GroupName.FORGET].items] == [False, True]


def test_nothing_is_sampled_where_no_sample_is_asked_for():
    llm, tokenizer = memorised()
    found = measure(llm, tokenizer, Probes(forget=FORGET), MeasureSettings(samples=0, prefixes=0))
    made = build_report(found, found, method="undial", parameters={}, seeds={})
    assert made.groups[GroupName.FORGET].samples == 0
    assert MetricName.SAMPLED_EXTRACTION not in made.groups[GroupName.FORGET].metrics
    assert made.groups[GroupName.FORGET].metrics[MetricName.GREEDY_EXTRACTION].after.value == 1.0


def test_unequal_probes_are_refused():
    llm, tokenizer = memorised()
    full = measure(llm, tokenizer, probes(earlier={}), SETTINGS)
    less = measure(llm, tokenizer, probes(earlier={}, retain=people(TRAINED[3:])), SETTINGS)
    with pytest.raises(ValueError, match="different probes"):
        build_report(full, less, method="undial", parameters={}, seeds={})


def test_sensitive_spans_and_texts_are_looked_for():
    llm, tokenizer = memorised()
    person = people(["Ada"])[0]
    first_word = person.completion.split()[0]
    span = Example(prompt=person.prompt, completion=" something else", sensitive=(first_word,))
    asked = Example(prompt=person.prompt, completion=" something else", sensitive=("Ada",))
    text = Example(text=f"{person.prompt}{person.completion}")
    found = measure(llm, tokenizer, Probes(forget=[span, asked, text]), SETTINGS).groups[GroupName.FORGET]
    assert [row.numbers.greedy_extracted for row in found[:2]] == [True, False]
    assert found[2].numbers.greedy_extracted is not None


def test_broken_weights_are_no_measurement():
    llm, tokenizer = memorised()
    with torch.no_grad():
        llm.model.norm.weight.fill_(float("nan"))
    with pytest.raises(Diverged):
        measure(llm, tokenizer, probes(), SETTINGS)


def test_measuring_tells_how_far_it_is_and_can_be_stopped():
    llm, tokenizer = memorised()
    shares: list[float] = []
    measure(llm, tokenizer, probes(), SETTINGS, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 5

    def stop(share: float) -> None:
        raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        measure(llm, tokenizer, probes(), SETTINGS, stop)
