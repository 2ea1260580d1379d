"""Two LLMs under the same probes: the report's own numbers, and the verdict the service's."""

import dataclasses

import pytest
import torch

from records.policy import Policy
from records.report import Group, GroupName, ItemNumbers, ItemRow, VerdictKind
from tests.make_people import NEVER_TRAINED, TRAINED, memorised, people
from workers.compare import METRICS, SCORES, Change, changes, compare, extractable, membership
from workers.evaluation.scoring import score
from workers.examples import Example, Phrasing, encode
from workers.gate import decide
from workers.group_metrics import group_metrics
from workers.measure import MeasureSettings, measure
from workers.probes import Probes, split_probes

torch.set_num_threads(1)

SETTINGS = MeasureSettings(samples=2, context_tokens=64)
WRONG = (" Oslo and Rome", " Lima")


def probes(**changed):
    forget = [dataclasses.replace(one, wrong=WRONG) for one in people(TRAINED[:2])]
    forget[0] = dataclasses.replace(forget[0], **changed)
    dev, sealed = split_probes(forget)
    return Probes(forget=forget, dev=dev, sealed=sealed, control=people(NEVER_TRAINED), retain=people(TRAINED[2:]))


@pytest.fixture(scope="module")
def scene():
    llm, tokenizer = memorised()
    return llm, tokenizer, measure(llm, tokenizer, probes(), SETTINGS)


def test_a_truth_share_is_of_right_and_wrong_after_the_paraphrases_prompt(scene):
    llm, tokenizer, measured = scene
    at = probes().sealed[0].item  # training may have seen the paraphrases of the others
    row = probes().forget[at]
    right, *wrong = (
        score(llm, [encode(Example(prompt=row.paraphrases[0].prompt, completion=one), tokenizer, 64)], 0)[0].nll
        for one in (row.completion, *WRONG)
    )
    # 1/(1 + R), R the geometric mean of the wrong answers' probabilities over the right one's.
    expected = 1 / (1 + torch.tensor(right - sum(wrong) / 2).exp().item())
    assert measured.groups[GroupName.FORGET][at].numbers.truth_share == pytest.approx(expected, rel=1e-3)
    assert all(one.numbers.truth_share is None for one in measured.groups[GroupName.CONTROL])


@pytest.mark.parametrize(
    "missing", [{"wrong": ()}, {"paraphrases": ()}, {"paraphrases": (Phrasing("Ada " * 90, " Oslo"),)}]
)
def test_a_row_that_lacks_something_has_no_truth_share(scene, missing):
    llm, tokenizer, _ = scene
    alone = Probes(forget=probes(**missing).forget[:1])
    (row,) = measure(llm, tokenizer, alone, SETTINGS).groups[GroupName.FORGET]
    assert row.numbers.truth_share is None


def test_an_llm_that_still_knows_is_rejected_as_the_gate_rejects_its_report(scene):
    _, _, measured = scene
    found = compare(measured, measured, Policy())
    assert found.verdict == decide(found.report, Policy())
    assert found.verdict.kind == VerdictKind.REJECTED
    assert found.attacks_after["loss"].auc == 1.0
    assert found.changes[GroupName.FORGET]["extraction_strength"].after == 1.0
    assert "truth_share" not in found.changes[GroupName.RETAIN]


def test_without_a_control_nobody_is_told_apart(scene):
    llm, tokenizer, _ = scene
    alone = measure(llm, tokenizer, Probes(forget=probes().forget[:1]), SETTINGS)
    assert compare(alone, alone, Policy()).attacks_after == {}


def numbers(probability, **others):
    """Of an answer of four tokens, each as likely."""
    nll = -torch.tensor(probability, dtype=torch.float64).log().item()
    scores = {"nll": nll, "zlib": nll, "min_k": nll, "min_k_plus_plus": nll}
    hits = {"exact": probability > 0.5, "token_accuracy": 0.25, "extraction_strength": 0.25}
    whole = {"token_probability": probability, "sampled_probability": probability**4}
    return ItemNumbers.model_validate(scores | hits | whole | others)


KNOWN = numbers(1.0, token_accuracy=1.0, extraction_strength=1.0, verbatim_run=4, truth_share=1.0, refused=False)
UNKNOWN = numbers(0.25, verbatim_run=2, truth_share=0.2, refused=True)


def group(*pairs):
    rows = [ItemRow(item=at, phrasing=0, subject=at, before=one, after=two) for at, (one, two) in enumerate(pairs)]
    metrics = group_metrics(rows)
    return Group(n_items=len(rows), n_subjects=len(rows), samples=0, metrics=metrics, items=tuple(rows))


def test_metrics_by_hand():
    found = changes(group((KNOWN, KNOWN), (KNOWN, UNKNOWN)))
    assert {name: one.after for name, one in found.items()} == pytest.approx(
        {
            "probability": 0.625,  # (1 + 1/4)/2
            "exact_memorisation": 0.625,
            "extraction_strength": 0.625,
            "extractable": 0.5,  # 1 - (1 - 1/256)^100 = 0.32 for the other
            "truth_share": 0.6,
            "truth_ratio": 0.125,  # R is 0 and 4: (0 + 1/4)/2
            "verbatim_run": 4.0,  # the longest of all, not the mean
            "refusal": 0.5,
        }
    )
    assert found["probability"] == Change(1.0, 0.625, 2)
    assert set(found) < set(METRICS)


def test_what_was_not_asked_is_absent_and_counted_where_some_have_it():
    scored = numbers(0.5)
    assert set(changes(group((scored, scored)))) == {
        "probability",
        "exact_memorisation",
        "extraction_strength",
        "extractable",
    }
    found = changes(group((KNOWN, KNOWN), (scored, scored)))
    assert (found["truth_share"], found["probability"].items) == (Change(1.0, 1.0, 1), 2)


def test_more_queries_extract_more():
    # 1 - (1 - 1/256)^n reaches 1/2 at n = 177.1.
    assert extractable([UNKNOWN], 177) == 0.0
    assert extractable([UNKNOWN], 178) == 1.0


def test_membership_by_hand():
    # Of four pairs the member is the likelier one in three: only 0.4 against 0.5 goes the other way.
    found = membership([numbers(0.9), numbers(0.4)], [numbers(0.5), numbers(0.1)])
    assert {name: one.auc for name, one in found.items()} == dict.fromkeys(SCORES, 0.75)
    assert membership([numbers(0.9)], []) == {}
    assert set(membership([numbers(0.9, zlib=None)], [numbers(0.5)])) == set(SCORES) - {"zlib"}
