"""Two LLMs under the same probes: what is kept must be what was measured, and the verdict the service's."""

import dataclasses

import pytest
import torch

from records.policy import Policy
from records.report import GroupName, VerdictKind
from tests.make_people import NEVER_TRAINED, TRAINED, memorised, people
from workers.compare import compare, read, truth_ratios
from workers.evaluation.scoring import score
from workers.examples import Example, Phrasing, Probe, encode
from workers.gate import decide
from workers.measure import Measured, MeasureSettings, measure
from workers.probes import Asked, Probes, split_probes

torch.set_num_threads(1)

SETTINGS = MeasureSettings(samples=2, context_tokens=64)
WRONG = (" Oslo and Rome", " Lima")


def probes():
    forget = [dataclasses.replace(one, wrong=WRONG) for one in people(TRAINED[:2])]
    dev, sealed = split_probes(forget)
    return Probes(forget=forget, dev=dev, sealed=sealed, control=people(NEVER_TRAINED), retain=people(TRAINED[2:]))


@pytest.fixture(scope="module")
def scene():
    llm, tokenizer = memorised()
    return llm, tokenizer, read(llm, tokenizer, probes(), SETTINGS)


def test_one_pass_gives_the_services_numbers_and_the_fields(scene):
    llm, tokenizer, reading = scene
    plain = measure(llm, tokenizer, probes(), SETTINGS)
    assert list(reading.items) == list(plain.groups)
    for name, rows in plain.groups.items():
        kept = reading.measurement.groups[name]
        assert [one.numbers.exact for one in kept] == [one.numbers.exact for one in rows]
        assert [one.numbers.sampled_hits for one in kept] == [one.numbers.sampled_hits for one in rows]
        assert [one.numbers.nll for one in kept] == pytest.approx([one.numbers.nll for one in rows], abs=1e-5)
        assert [-sum(one.tokens.log_probabilities) / 3 for one in reading.items[name]] == pytest.approx(
            [one.numbers.nll for one in kept], abs=1e-9
        )


def test_items_hold_what_was_said_about_them(scene):
    _, _, reading = scene
    (first, *_) = reading.items[GroupName.FORGET]
    home = people(TRAINED[:1])[0].completion.strip()
    assert (first.text, first.answer.text, first.answer.ids) == (home, home, first.label_ids)
    assert all(one.answer is None for one in reading.items[GroupName.RETAIN])


def test_a_truth_ratio_is_wrong_over_right_after_the_paraphrases_prompt(scene):
    llm, tokenizer, reading = scene
    row = probes().forget[0]
    right, *wrong = (
        score(llm, [encode(Example(prompt=row.paraphrases[0].prompt, completion=one), tokenizer, 64)], 0)[0].nll
        for one in (row.completion, *WRONG)
    )
    # Geometric mean of the wrong answers' probabilities over the right one's.
    expected = torch.tensor(right - sum(wrong) / 2).exp().item()
    assert reading.items[GroupName.FORGET][0].truth_ratio == pytest.approx(expected, rel=1e-3)
    assert all(one.truth_ratio is None for one in reading.items[GroupName.CONTROL])


@pytest.mark.parametrize(
    "missing", [{"wrong": ()}, {"paraphrases": ()}, {"paraphrases": (Phrasing("Ada " * 90, " Oslo"),)}]
)
def test_a_row_that_lacks_something_has_no_truth_ratio(scene, missing):
    llm, tokenizer, reading = scene
    row = dataclasses.replace(probes().forget[0], **missing)
    measured = Measured(Asked(Probe(0, 0, row), 0, "sealed"), reading.measurement.groups[GroupName.FORGET][0].numbers)
    assert truth_ratios(llm, tokenizer, [measured], 64) == {}


def test_an_llm_that_still_knows_is_rejected_as_the_gate_rejects_its_report(scene):
    _, _, reading = scene
    found = compare(reading, reading, Policy())
    assert found.verdict == decide(found.report, Policy())
    assert found.verdict.kind == VerdictKind.REJECTED
    assert found.attacks_after["loss"].auc == 1.0
    assert found.changes[GroupName.FORGET]["extraction_strength"].after == 1.0
    assert "truth_share" not in found.changes[GroupName.RETAIN]


def test_without_a_control_nobody_is_told_apart(scene):
    llm, tokenizer, _ = scene
    alone = read(llm, tokenizer, Probes(forget=probes().forget[:1]), SETTINGS)
    assert compare(alone, alone, Policy()).attacks_after == {}


def test_the_context_must_be_said_and_earlier_requests_are_none_of_it(scene):
    llm, tokenizer, _ = scene
    with pytest.raises(ValueError, match="context_tokens"):
        read(llm, tokenizer, probes(), MeasureSettings())
    with pytest.raises(ValueError, match="earlier"):
        read(llm, tokenizer, dataclasses.replace(probes(), earlier={"req-1": people(TRAINED[:1])}), SETTINGS)
