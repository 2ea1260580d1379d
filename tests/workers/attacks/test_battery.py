"""The whole battery on LLMs that know, hide, and never knew."""

import dataclasses

import pytest
import torch

from records.params import parse_parameters
from records.report import GroupName
from tests.make_people import NEVER_TRAINED, memorised, people
from tests.workers.attacks import make_unlearned as unlearned
from workers.attacks.battery import AttackSettings, Targets, run_attacks, settings_for
from workers.attacks.quantised import moved_codes, weights_of
from workers.attacks.relearning import Training
from workers.errors import Cancelled
from workers.examples import Example
from workers.probes import Probes, split_probes

torch.set_num_threads(1)

CONTROL = people(NEVER_TRAINED)
DEV, SEALED = split_probes(unlearned.FORGET)
TARGETS = Targets(Probes(unlearned.FORGET, DEV, SEALED, CONTROL), unlearned.OTHERS)
SETTINGS = AttackSettings(Training(learning_rate=3e-4), samples=4)
EVERY = ["int8", "nf4", "prefix", "few_shot", "partly_given", "benign", "half_split", "savings"]


def attack(candidate, targets=TARGETS, say=lambda share: None, known=None, settings=SETTINGS):
    base, tokenizer = memorised()
    return run_attacks(lambda: base, lambda: candidate, tokenizer, targets, settings, say, known, weights_of(base))


def by_name(result):
    return {one.name: one for one in result.attacks}


def exact(attack_, which, name=GroupName.FORGET):
    return sum(getattr(row, which).exact for row in attack_.groups[name].items)


def rise(attack_, name):
    """Mean nll before - after: what training brought back."""
    rows = attack_.groups[name].items
    return sum(row.before.nll - row.after.nll for row in rows) / len(rows)


@pytest.fixture(scope="module")
def fragile():
    shares = []
    return attack(unlearned.inside_buckets()[0], say=shares.append), shares


def test_every_attack_is_run_and_paired(fragile):
    result, shares = fragile
    assert [one.name for one in result.attacks] == EVERY
    for one in result.attacks:
        assert {GroupName.FORGET, GroupName.CONTROL} <= set(one.groups)
        assert one.seconds > 0
    precision = by_name(result)["nf4"].groups
    assert precision[GroupName.FORGET_PARAPHRASES].n_items == len(unlearned.FORGET)
    assert {row.split for row in precision[GroupName.FORGET_PARAPHRASES].items} == {"dev", "sealed"}
    assert by_name(result)["prefix"].groups[GroupName.FORGET].samples == 4
    assert by_name(result)["few_shot"].groups[GroupName.FORGET].samples == 0
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_what_only_rounding_brings_back_is_seen_in_four_bits_alone(fragile):
    found = by_name(fragile[0])
    assert exact(found["benign"], "before") == 0  # asked as it is
    assert exact(found["nf4"], "before") == exact(found["nf4"], "after") > 0.5 * len(unlearned.FORGET)
    assert "0.0 % of the weights" in found["nf4"].notes[0]
    base, candidate = memorised()[0], unlearned.inside_buckets()[0]
    assert moved_codes(weights_of(base), candidate).moved == 0


def test_what_is_masked_comes_back_by_training_and_what_never_was_does_not():
    masked, ignorant = (by_name(attack(make()[0])) for make in (unlearned.masked, unlearned.ignorant))
    assert rise(masked["benign"], GroupName.FORGET) > 0.5
    assert rise(masked["benign"], GroupName.CONTROL) < 0
    assert rise(masked["half_split"], GroupName.FORGET) > rise(masked["half_split"], GroupName.CONTROL)
    assert rise(ignorant["benign"], GroupName.FORGET) < 0
    assert rise(ignorant["half_split"], GroupName.FORGET) < rise(ignorant["half_split"], GroupName.CONTROL)
    for name in ("int8", "nf4", "prefix", "benign", "half_split"):
        assert exact(ignorant[name], "after") == 0, name


def test_the_base_version_is_asked_once_a_job_and_nothing_stays_changed(fragile):
    llm, tokenizer = unlearned.inside_buckets()
    before = {name: one.clone() for name, one in llm.state_dict().items()}

    def never():
        raise AssertionError("the base version was loaded again")

    known = fragile[0].base
    again = run_attacks(never, lambda: llm, tokenizer, TARGETS, SETTINGS, lambda share: None, known)
    assert all(torch.equal(one, before[name]) for name, one in llm.state_dict().items())
    for first, second in zip(fragile[0].attacks, again.attacks, strict=True):
        assert first.groups == second.groups
    with pytest.raises(ValueError, match="was not asked by int8"):
        run_attacks(never, lambda: llm, tokenizer, TARGETS, SETTINGS, lambda _: None, type(known)({}))


def test_where_probabilities_are_no_numbers_that_is_what_is_said():
    llm, _ = memorised()
    with torch.no_grad():
        llm.model.layers[0].mlp.up_proj.weight[0, 0] = float("inf")
    found = by_name(attack(llm, settings=dataclasses.replace(SETTINGS, samples=1)))
    assert not any(one.groups for one in found.values())
    assert "candidate are not numbers" in found["int8"].notes[0]
    assert "not measured: the LLM's probabilities are not numbers" in found["savings"].notes[0]


def test_a_cancel_passes():
    def cancel(share):
        raise Cancelled("stop")

    llm, _ = memorised()
    before = {name: one.clone() for name, one in llm.state_dict().items()}
    with pytest.raises(Cancelled):
        attack(llm, say=cancel)
    assert all(torch.equal(one, before[name]) for name, one in llm.state_dict().items())


def test_without_control_and_retain_rows_less_is_asked():
    texts = [Example(text="Ada work as the baker in Oslo ."), Example(text="Bo work as the judge in Rome .")]
    found = by_name(attack(memorised()[0], Targets(Probes(texts))))
    assert list(found) == ["int8", "nf4", "partly_given", "half_split"]
    assert [(row.item, row.phrasing) for row in found["partly_given"].groups[GroupName.FORGET].items] == [
        (item, way) for item in (0, 1) for way in (0, 1, 2)
    ]
    assert set(found["half_split"].groups) == {GroupName.FORGET}


def test_the_candidate_is_attacked_as_the_job_trained():
    settings = settings_for(parse_parameters("undial", {"learning_rate": 1e-3, "seed": 3}), seed=5)
    assert (settings.training.learning_rate, settings.training.seed, settings.seed) == (1e-3, 3, 5)
