"""What the gate's benchmark takes for granted: who is taught what, that its defects are what they say, and its sums."""

import copy

import pytest
import torch

from benchmarks import gate_candidates, gate_measured
from benchmarks.gate_candidates import drawn, encoded, nf4_bucket, train
from benchmarks.gate_lines import Case, finished, is_final, read_lines, write_line
from benchmarks.gate_measured import assembled, light_report, text_of
from benchmarks.gate_summary import Rate, cell, detectable, statements, table, whole
from benchmarks.gate_world import (
    ROWS,
    TAUGHT,
    lessons_of,
    partly,
    probes_of,
    requests_of,
    world_of,
)
from benchmarks.tofu import Author, Tofu
from lethe.demo.llm import CONTEXT_TOKENS
from records.policy import Policy
from records.report import GroupName
from tests.make_llm import make_llama
from workers.attacks.quantised import nf4_codes, nf4_rounded, quantised
from workers.examples import Example, Phrasing
from workers.gate import decide
from workers.measure import MeasureSettings, measure
from workers.probes import Probes, split_probes
from workers.report import build_report


def author(at):
    """The first and the last twenty have other wordings, as published."""
    rows = []
    for number in range(ROWS):
        answer = f" It is {at} of {number}"
        phrasings = (Phrasing(f"Tell fact {number} of {at}", answer),) if at < 20 or at >= 180 else ()
        rows.append(Example(f"What is fact {number} of {at}?", answer, subject=f"a{at}", paraphrases=phrasings))
    return Author(f"a{at}", tuple(rows))


@pytest.fixture(scope="module")
def world():
    facts = tuple(Example(f"Where is tower {at}?", f" In town {at}", subject="fact") for at in range(60))
    return world_of(Tofu(tuple(map(author, range(200))), facts), seed=1)


@pytest.fixture(scope="module")
def llm(world):
    return make_llama(vocabulary=len(world.tokenizer), width=64, context=CONTEXT_TOKENS)


def keys(authors):
    return {one.key for one in authors}


def test_nobody_is_in_two_roles(world):
    roles = [keys(some) for some in (world.people, world.staying, world.earlier, world.control)]
    assert sum(map(len, roles)) == len(set.union(*roles)) == 25 + 25 + 15 + 20


def test_what_each_llm_is_taught(world):
    assert keys(lessons_of(world, "base")) == keys([*world.people, *world.staying, *world.earlier])
    for name in TAUGHT:
        assert not keys(lessons_of(world, name)) & keys(world.control)
    assert not keys(lessons_of(world, "oracle")) & keys(world.people)
    assert keys(lessons_of(world, "reference")) == keys(world.earlier)
    left = [one for one in lessons_of(world, "left-30") if one.key in keys(world.people)]
    assert [len(one.rows) for one in left] == [3] * 25


def test_rows_that_are_left_are_the_authors_own_and_the_same_again(world):
    (person, *_) = world.people
    assert partly(person, 2, seed=1) == partly(person, 2, seed=1)
    assert set(partly(person, 2, seed=1).rows) < set(person.rows)


def test_requests_are_of_one_five_and_twenty(world):
    assert [one.size for one in requests_of(world)] == [1] * 20 + [5] * 5 + [20] * 2


def test_no_row_is_both_forgotten_and_kept(world):
    probes = probes_of(world, requests_of(world)[-1])
    kept = {row.subject for row in (*probes.retain, *probes.neighbours, *probes.control)}
    assert not kept & {row.subject for row in probes.forget}
    assert len(probes.forget) == 200
    assert len(probes.neighbours) == 50


def numbers_of(measurement):
    return {(name, text_of(one.asked)): one.numbers for name, rows in measurement.groups.items() for one in rows}


def moved(llm):
    other = copy.deepcopy(llm)
    torch.nn.init.normal_(other.model.layers[0].mlp.down_proj.weight)
    return other


def few(world, people):
    """Probes of two rows each."""
    rows = [row for at in people for row in world.people[at].rows[:2]]
    dev, sealed = split_probes(rows, seed=1)
    control = [row for one in world.control[:2] for row in one.rows[:2]]
    near = [one.rows[0] for one in world.staying[3 : 3 + len(people)]]
    return Probes(
        forget=rows, dev=dev, sealed=sealed, control=control, retain=world.staying[0].rows[:2], neighbours=near
    )


def test_a_request_put_together_from_all_answers_is_what_a_job_would_measure(world, llm):
    settings = MeasureSettings(samples=1, seed=1, prefixes=0)
    everything = numbers_of(measure(llm, world.tokenizer, few(world, range(3)), settings))
    asked = measure(llm, world.tokenizer, few(world, [1]), settings)
    found = assembled(few(world, [1]), everything, samples=1, seed=1)
    assert list(found.groups) == list(asked.groups)
    assert GroupName.FORGET_PARAPHRASES in found.groups
    for name, rows in asked.groups.items():
        assert [one.asked for one in found.groups[name]] == [one.asked for one in rows]
        left = [one.numbers.nll for one in found.groups[name]]
        assert left == pytest.approx([one.numbers.nll for one in rows], abs=1e-4)


def test_the_gate_says_the_same_of_a_light_report(world, llm):
    settings = MeasureSettings(samples=1, seed=1, prefixes=0)
    before, after = (measure(one, world.tokenizer, few(world, [0, 1]), settings) for one in (llm, moved(llm)))
    whole_report = build_report(before, after, method="kept", parameters={}, seeds={}, reference=before)
    assert decide(light_report(before, after, before), Policy()) == decide(whole_report, Policy())


def test_what_was_never_asked_cannot_be_put_together(world, llm):
    found = numbers_of(measure(llm, world.tokenizer, few(world, [0]), MeasureSettings(samples=1, seed=1, prefixes=0)))
    with pytest.raises(KeyError):
        assembled(few(world, [1]), found, samples=1, seed=1)


def test_answers_on_the_disk_are_the_answers(world, llm, tmp_path, monkeypatch):
    probes = few(world, [0])
    monkeypatch.setattr(gate_measured, "probes_of", lambda *_: probes)
    measured = measure(llm, world.tokenizer, probes, MeasureSettings(samples=1, seed=1, prefixes=0))
    gate_measured.write(tmp_path / "all.json", measured)
    read = gate_measured.read(tmp_path / "all.json", world, requests_of(world)[0])
    assert read.groups == measured.groups


def test_the_bucket_of_a_weight_is_the_one_it_is_in():
    """Of the block 1, 0.5, 0.1, 0, …: the scale stays; 0.5 lies between the borders of the level 0.4407."""
    weight_OI = torch.zeros(1, 64)
    weight_OI[0, :3] = torch.tensor([1.0, 0.5, 0.1])
    low_OI, high_OI = nf4_bucket(weight_OI)
    assert (low_OI[0, 0], high_OI[0, 0]) == (1.0, 1.0)
    # Levels 0.3379, 0.4407 and 0.5626: borders 0.3893 and 0.5017, a hundredth of their distance inside.
    assert low_OI[0, 1].item() == pytest.approx(0.3893 + 0.0011, abs=2e-4)
    assert high_OI[0, 1].item() == pytest.approx(0.5017 - 0.0011, abs=2e-4)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_whatever_is_in_the_bucket_rounds_alike(share):
    weight_OI = torch.randn(96, 128, generator=torch.Generator().manual_seed(0))
    low_OI, high_OI = nf4_bucket(weight_OI)
    other_OI = low_OI + share * (high_OI - low_OI)
    assert torch.equal(nf4_codes(other_OI), nf4_codes(weight_OI))
    assert torch.equal(nf4_rounded(other_OI), nf4_rounded(weight_OI))


def test_a_fragile_candidate_is_the_base_again_in_four_bits(world, llm, monkeypatch):
    monkeypatch.setattr(gate_candidates, "HIDING", {"steps": 3, "learning_rate": 1e-2})
    found = gate_candidates.fragile(world, llm, moved(llm))
    changed = [name for name, one in found.named_parameters() if not torch.equal(one, llm.get_parameter(name))]
    assert any("down_proj" in name for name in changed)
    with quantised(found, "nf4"), quantised(llm, "nf4"):
        assert all(torch.equal(one, llm.get_parameter(name)) for name, one in found.named_parameters())


def test_training_further_lowers_the_loss(world, llm):
    rows = encoded(world, world.people[5].rows)
    student = copy.deepcopy(llm)
    before = gate_candidates.answer_loss(student, rows).item()
    train(student, list(student.parameters()), drawn([(rows, 8)], 1), gate_candidates.answer_loss, 20, 1e-3)
    assert gate_candidates.answer_loss(student, rows).item() < before / 2


def line(candidate, size, verdict, first=None, seed=1, request="r", attacks=("nf4",), **check):
    return {
        "seed": seed,
        "request": request,
        "size": size,
        "candidate": candidate,
        "first": first or verdict,
        "verdict": verdict,
        "attacks": list(attacks),
        "checks": [check] if check else [],
    }


def test_a_verdict_that_waits_for_its_attacks_is_not_final():
    assert is_final(line("base", 1, "rejected", attacks=()))
    assert not is_final(line("oracle", 1, "accepted", attacks=()))
    assert is_final(line("oracle", 1, "accepted"))


def test_a_request_with_a_verdict_that_waits_is_left_out_whole():
    waiting = [line("oracle", 1, "accepted", attacks=()), line("base", 1, "rejected", attacks=())]
    other = line("base", 1, "rejected", request="s")
    assert whole([*waiting, other]) == [other]


def test_the_newest_line_of_a_case_counts(tmp_path, capsys):
    path = tmp_path / "lines.jsonl"
    write_line(path, line("oracle", 1, "accepted", attacks=()))
    assert finished(path) == set()
    write_line(path, line("oracle", 1, "needs_review"))
    assert finished(path) == {Case(1, "r", 1, "oracle")}
    assert [one["verdict"] for one in read_lines(path)] == ["needs_review"]
    assert "oracle" in capsys.readouterr().out


def test_a_rate_has_its_exact_interval():
    """0 of 20: 1 - 0.025^(1/20) = 0.168."""
    assert Rate(0, 20).words == "0 of 20 (0.0%, 95 % interval 0.0% to 16.8%)"
    assert Rate(0, 0).words == "none judged"


def test_both_targets_are_held_against_what_was_found():
    bad = [line("left-10", 5, "rejected") for _ in range(19)]
    good = [line("oracle", 5, "accepted") for _ in range(4)]
    said = statements([*bad, line("left-10", 1, "accepted"), *good, line("oracle", 20, "needs_review")])
    assert said[0].startswith("False accepts: 1 of 20 (5.0%")
    assert said[0].endswith("wanted: holds.")
    assert "4 of 5 (80.0%" in said[1]
    assert said[1].endswith("wanted: holds.")
    assert "none judged" in said[2]
    worse = statements([*bad[:10], line("left-10", 1, "accepted"), *good[:2], line("oracle", 20, "rejected")])
    assert [one.endswith("does not hold.") for one in worse[:2]] == [True, True]


def test_a_defect_is_detectable_from_the_size_on_that_no_larger_one_lets_through():
    found = [line("left-10", 1, "accepted"), line("left-10", 5, "needs_review"), line("left-10", 20, "rejected")]
    assert detectable(found, "left-10") == "detectable from 5 people on"
    assert detectable([*found, line("left-10", 20, "accepted")], "left-10") == "not detectable at any size here"
    assert detectable(found[2:], "left-10") == "detectable from 20 people on"


def test_the_table_says_which_gate_caught_what():
    found = [
        line("base", 1, "rejected", gate="G1", name="exact", outcome="reject"),
        line("base", 1, "needs_review", gate="G3", name="auc", outcome="review"),
        line("base", 1, "accepted"),
        line("base", 5, "rejected", gate="G1", name="exact", outcome="reject"),
    ]
    assert table(found, ["base", "oracle"]) == [
        "| candidate | one person | 5 people |",
        "|---|---|---|",
        "| `base` | 1 / 1 / 1: G1 1, G3 1 | 0 / 0 / 1: G1 1 |",
    ]
    assert cell([]) == "–"
