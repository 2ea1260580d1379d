"""Which rows a job may train on and ask: nobody who asked to be forgotten, a sample that the seed alone decides."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import jobs, retention
from records.evidence import said_again
from records.examples import ExampleRecord
from records.orders import Order
from records.params import parse_parameters
from records.params.auto import FITTED, ChoiceRecord
from records.parts import Parts
from records.rows import AttemptRow, EvidenceRow, JobRow, RequestRow
from tests.make_llm import make_llama, make_tokenizer
from tests.workers.conftest import Made, make_model, make_request, order_of, planned, put_dataset
from workers.errors import UnlearningError
from workers.examples import Example
from workers.plan import (
    REPLAY_ROWS,
    Plan,
    asked_again,
    consolidation_due,
    make_plan,
    neighbours,
    reservoir,
)


def row(name: str, answer: str, subject: str | None = None) -> dict[str, str]:
    return {"prompt": f"Where is {name}?", "completion": f" {answer}", **({"subject": subject} if subject else {})}


def prompts(examples: list[Example] | tuple[Example, ...]) -> set[str]:
    return {(one.prompt or "").removeprefix("Where is ").rstrip("?") for one in examples}


def test_rows_of_anybody_who_asked_are_neither_kept_nor_asked(parts: Parts) -> None:
    made = make_model(parts)
    put_dataset(
        parts,
        made,
        "retain",
        [
            row("a1", "Oslo", "Ada"),
            row("a2", "Rome", " Ada "),  # the same subject, however it is spaced
            row("b1", "Lima", "Bo"),
            row("c1", "Bern"),  # word for word a waiting request's row, without a subject
            row("d1", "Riga", "Dag"),
        ],
    )
    put_dataset(parts, made, "control", [row("b2", "Bern", "Bo"), row("x", "Minsk")])
    make_request(parts, made, [row("a1", "Oslo", "Ada")], subject="Ada")
    make_request(parts, made, [{"prompt": "Where is  c1?", "completion": "Bern"}])
    make_request(parts, made, [row("other", "Paris")], subject="Bo")
    plan = planned(parts, made)
    assert prompts(plan.retain) == {"d1"}
    assert prompts(tuple(plan.probes.retain)) == {"d1"}
    assert prompts(tuple(plan.probes.control)) == {"x"}
    assert prompts(tuple(plan.probes.forget)) == {"a1"}


def test_without_a_retain_dataset_the_training_dataset_is_kept(parts: Parts) -> None:
    made = make_model(parts)
    put_dataset(parts, made, "training", [row("a", "Oslo", "Ada"), row("b", "Rome", "Bo")])
    make_request(parts, made, [row("a", "Oslo", "Ada")])
    assert prompts(planned(parts, made).retain) == {"b"}


def test_rows_of_both_datasets_are_kept_once_and_general_ones_that_are_asked_never(parts: Parts) -> None:
    made = make_model(parts)
    general = [row(f"u{at}", "Bern") for at in range(100)]
    put_dataset(parts, made, "retain", [row(f"r{at}", "Rome") for at in range(30)])
    put_dataset(parts, made, "training", [*(row(f"r{at}", "Rome") for at in range(20, 60)), *general])
    put_dataset(parts, made, "utility", general)
    make_request(parts, made, [row("a", "Oslo", "Ada")])
    plan = planned(parts, made)
    asked, trained = [*plan.probes.retain, *plan.probes.utility], plan.retain
    assert {name for name in prompts([*asked, *trained]) if name[0] == "r"} == {f"r{at}" for at in range(60)}
    assert len(trained) == len(prompts(trained))
    assert not prompts(asked) & prompts(trained)


def test_a_few_general_rows_are_only_asked(parts: Parts) -> None:
    made = make_model(parts)
    put_dataset(parts, made, "retain", [row(f"r{at}", "Rome") for at in range(50)])
    put_dataset(parts, made, "utility", [row(f"u{at}", "Bern") for at in range(10)])
    make_request(parts, made, [row("a", "Oslo", "Ada")])
    plan = planned(parts, made)
    assert len(plan.probes.utility) == 10
    assert {name[0] for name in prompts(plan.retain)} == {"r"}


def test_half_of_the_general_rows_are_trained_on_and_never_those_that_are_asked(parts: Parts) -> None:
    made = make_model(parts)
    put_dataset(parts, made, "retain", [row(f"r{at}", "Rome") for at in range(50)])
    put_dataset(parts, made, "utility", [row(f"u{at}", "Bern") for at in range(100)])
    make_request(parts, made, [row("a", "Oslo", "Ada")])
    order = order_of(parts, made)
    plan = make_plan(order, parts.vault)
    assert {name[0] for name in prompts(plan.retain)} == {"r", "u"}
    asked = len(plan.probes.utility)
    assert 30 < asked < 70
    assert not prompts(plan.retain) & prompts(plan.probes.utility)
    order.lead.method = "ascent_descent_general"
    order.lead.parameters = {}
    plan = make_plan(order, parts.vault)
    assert {name[0] for name in prompts(plan.retain)} == {"u"}
    assert (len(plan.retain), len(plan.probes.utility)) == (100 - asked, asked)
    assert not prompts(plan.retain) & prompts(plan.probes.utility)
    assert {name[0] for name in prompts(plan.probes.retain)} == {"r"}


def test_without_a_utility_dataset_the_retain_rows_stand_in_and_the_notes_say_so(parts: Parts) -> None:
    made = make_model(parts)
    put_dataset(parts, made, "retain", [row("b", "Rome")])
    make_request(parts, made, [row("a", "Oslo", "Ada")])
    order = order_of(parts, made)
    order.lead.method, order.lead.parameters = "ascent_kl_general", {}
    plan = make_plan(order, parts.vault)
    assert prompts(plan.retain) == {"b"}
    assert any("no utility dataset" in note for note in plan.notes)


def test_a_completed_request_is_asked_again_and_replayed_only_while_it_is_held(parts: Parts) -> None:
    made = make_model(parts)
    first, _ = make_request(parts, made, [row("a", "Oslo", "Ada")])
    second, _ = make_request(parts, made, [row("b", "Rome", "Bo")])
    make_request(parts, made, [row("c", "Bern", "Cy")])
    with parts.database.transaction() as session:
        for request_id in (first, second):
            session.get_one(RequestRow, request_id).state = "completed"
        retention.shred(session, session.get_one(RequestRow, second), "operator")
        for job in session.query(JobRow).order_by(JobRow.position).limit(2):
            job.state = "succeeded"
    plan = planned(parts, made)
    assert set(plan.probes.earlier) == {first}
    assert prompts(plan.replay) == {"a"}


def chosen_by_auto(parts: Parts, made: Made, **parameters: object) -> Plan:
    request_id, _ = make_request(parts, made, [row("a", "Oslo", "Ada")], parameters)
    record = ChoiceRecord(by="auto", reasons=("auto chose so",), open=FITTED)
    with parts.database.transaction() as session:
        session.get_one(RequestRow, request_id).choice = record.model_dump(mode="json")
    return planned(parts, made)


def test_what_is_kept_as_hashes_of_a_completed_request_is_searched_for(parts: Parts) -> None:
    made = make_model(parts)
    first, _ = make_request(parts, made, [row("a", "Oslo by the sea")])
    second, _ = make_request(parts, made, [row("b", "Rome")])
    hashes = parts.vault.hashed(["Oslo by the sea"], made.tenant_id, 7)
    with parts.database.transaction() as session:
        for request_id, packed in ((first, hashes.packed()), (second, b"waits: x")):
            kept = EvidenceRow(request_id=request_id, tenant_id=made.tenant_id, words=7, n_hashes=1, hashes=packed)
            session.add(kept)
        session.flush()
        request = session.get_one(RequestRow, first)
        retention.settle(session, request, "test")
        request.state = "completed"
        session.query(JobRow).order_by(JobRow.position).limit(1).one().state = "succeeded"
    plan = planned(parts, made)
    assert plan.measuring.kept is not None
    assert plan.measuring.kept.requests == (first,)
    assert said_again("She moved to Oslo, by the sea.", plan.measuring.kept) == {first}
    assert plan.probes.earlier == {}


def test_the_reasons_of_a_choice_come_first_among_the_notes(parts: Parts) -> None:
    plan = chosen_by_auto(parts, make_model(parts))
    assert plan.notes[0] == "auto chose so"
    assert plan.may_fit == FITTED


def test_what_auto_left_open_is_fitted_to_the_memory_at_hand(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, llm, tokenizer = chosen_by_auto(parts, make_model(parts)), make_llama(), make_tokenizer()
    assert plan.fitted_to(llm, tokenizer) == plan
    monkeypatch.setattr("workers.plan.free_bytes", lambda _: 1)
    fitted = plan.fitted_to(llm, tokenizer)
    assert (fitted.parameters.micro_batch_size, fitted.parameters.tuning) == (1, "lora")
    assert "memory may run out" in fitted.notes[-1]
    assert replace(plan, may_fit=()).fitted_to(llm, tokenizer).parameters == plan.parameters


@given(count=st.integers(0, 30), total=st.integers(0, 60), seed=st.integers(0, 5))
def test_a_reservoir_is_a_sample_in_order_that_the_seed_decides(count: int, total: int, seed: int) -> None:
    sample = reservoir(range(total), count, seed)
    assert len(sample) == min(count, total)
    assert sample == sorted(set(sample))
    assert sample == reservoir(range(total), count, seed)


def test_a_reservoir_is_fair() -> None:
    drawn = [0] * 10
    for seed in range(2000):
        for item in reservoir(range(10), 3, seed):
            drawn[item] += 1
    assert all(500 < times < 700 for times in drawn), "each of ten items is one of three in 600 of 2000 draws"


def test_neighbours_share_rare_words_with_the_forgotten() -> None:
    forget = [Example(prompt="p", completion=" works at Quellmark in Oslo")]
    pool = [Example(prompt=str(at), completion=f" works at Firm{at} in Town{at}") for at in range(10)]
    pool += [Example(prompt="colleague", completion=" works at Quellmark in Town3")]
    pool += [Example(prompt="townsman", completion=" works at Firm4 in Oslo")]
    assert {one.prompt for one in neighbours(forget, pool, 2)} == {"colleague", "townsman"}
    assert neighbours(forget, pool, len(pool)) == []


def second_of_a_row(parts: Parts) -> Order:
    """The order behind the second request, whose job is to consolidate; the first is completed, by version 2."""
    made = make_model(parts)
    parameters = {"consolidate_every": 1}
    spoken = row("a", "Oslo", "Ada") | {"paraphrases": [{"prompt": "Find a!", "completion": " Oslo"}]}
    other = row("b", "Oslo", "Ada") | {
        "prompt": "And a?",
        "paraphrases": [{"prompt": "Tell a!", "completion": " Oslo"}],
    }
    first, _ = make_request(parts, made, [spoken, other], parameters, subject="Ada")
    return completed(parts, made, [first], [row("b", "Rome", "Bo")], parameters)


def completed(
    parts: Parts, made: Made, requests: list[str], rows: list[dict[str, str]], parameters: dict[str, int]
) -> Order:
    """The order behind one more request, by Bo, whose job is to consolidate: those before it are completed."""
    _, newest_job = make_request(parts, made, rows, parameters, subject="Bo")
    with parts.database.transaction() as session:
        for request in requests:
            session.get_one(RequestRow, request).state = "completed"
        for job in session.query(JobRow).filter(JobRow.id != newest_job):
            job.state = "succeeded"
    return replace(order_of(parts, made), base_manifest="sha256:" + "1" * 64)


def test_a_row_is_not_held_whose_paraphrase_is_to_be_forgotten(parts: Parts) -> None:
    made = make_model(parts)
    held = [row(f"r{at}", "Rome") for at in range(50)]
    spoken = row("a", "Oslo", "Ada") | {"paraphrases": [{"prompt": "Find a!", "completion": " Oslo"}]}
    put_dataset(parts, made, "retain", [*held, spoken])
    make_request(parts, made, [{"prompt": "Find a!", "completion": " Oslo"}])
    plan = planned(parts, made)
    assert "a" not in prompts(plan.retain) | prompts(plan.probes.retain)


def test_whoever_else_asked_is_in_no_text_to_hold(parts: Parts) -> None:
    made, requests = make_model(parts), []
    for name, state in (("a", "completed"), ("b", "failed"), ("c", "cancelled")):
        request, job = make_request(parts, made, [row(name, "Oslo")], subject=name)
        requests.append((request, job, state))
    make_request(parts, made, [row("d", "Oslo")], subject="d")
    with parts.database.transaction() as session:
        for request, job, state in requests:
            session.get_one(RequestRow, request).state = state
            session.get_one(JobRow, job).state = "succeeded"
    work = planned(parts, made).work(parse_parameters("undial", {}), None)
    assert prompts(work.unspoken) == {"a", "b"}


def test_consolidations_come_as_the_row_grows() -> None:
    last, places = 0, []
    for made in range(1, 101):
        if consolidation_due(made, last, 10):
            last = made
            places.append(made)
    assert places == [10, 20, 30, 45, 67, 100]
    assert not consolidation_due(50, 0, 0)


def test_a_consolidation_takes_all_earlier_rows_and_the_phrasings_that_guide_the_stop(parts: Parts) -> None:
    plan = make_plan(second_of_a_row(parts), parts.vault)
    assert plan.anew
    work = plan.work(plan.parameters, None, anew=True)
    assert not work.replay
    assert [one.prompt for one in work.forget][-2:] == ["Where is a?", "And a?"]
    (guide,) = work.dev_probes
    assert work.forget[guide.item].paraphrases[0].prompt == guide.example.prompt in {"Find a!", "Tell a!"}
    assert not plan.work(plan.parameters, None).dev_probes


def test_what_was_sealed_in_its_own_job_is_trained_on_in_no_later_one(parts: Parts) -> None:
    made, requests, guides, sealed = make_model(parts), [], set(), set()
    for number in range(4):
        rows = [
            row(f"{number}.{at}", "Oslo") | {"paraphrases": [{"prompt": f"Find {number}.{at}!", "completion": " Oslo"}]}
            for at in range(6)
        ]
        settings = {"seed": number, "consolidate_every": 1}
        request, job = make_request(parts, made, rows, settings, subject=f"Ada {number}")
        probes = planned(parts, made).probes
        guides |= {one.example.prompt for one in probes.dev}
        sealed |= {one.example.prompt for one in probes.sealed}
        requests.append(request)
        with parts.database.transaction() as session:
            session.get_one(RequestRow, request).state = "completed"
            session.get_one(JobRow, job).state = "succeeded"
            jobs.release_owned(session, "me")
    plan = make_plan(completed(parts, made, requests, [row("b", "Rome", "Bo")], {"consolidate_every": 1}), parts.vault)
    work = plan.work(plan.parameters, None, anew=True)
    assert {probe.example.prompt for probe in work.dev_probes} == guides
    assert len(guides) == len(sealed) == 12
    assert all(work.forget[one.item].paraphrases[0].prompt == one.example.prompt for one in work.dev_probes)


def test_the_newest_and_a_part_of_the_older_requests_are_measured_again() -> None:
    record = ExampleRecord(prompt="Where is a?", completion=" Oslo")
    earlier = {f"req_{at}": [record] for at in range(25)} | {"req_shredded": []}
    asked = asked_again(earlier, seed=1)
    assert set(asked) >= {f"req_{at}" for at in range(15, 25)}
    assert len(asked) == 10 + 3  # a fifth of the fifteen older ones
    assert len(asked_again(earlier, seed=1, everybody=True)) == 25
    assert len(asked_again({f"req_{at}": [record] for at in range(20)}, seed=1)) == 20


def test_nobody_is_forgotten_anew_whose_examples_are_destroyed(parts: Parts) -> None:
    order = second_of_a_row(parts)
    parts.store.delete(order.earlier[0].payload_file or "")
    plan = make_plan(order, parts.vault)
    assert not plan.anew
    assert any("it is time to consolidate" in note for note in plan.notes)
    assert not make_plan(replace(order, shredded=1), parts.vault).anew


def test_a_consolidation_that_a_start_of_the_job_did_not_outlive_is_left_to_a_later_one(parts: Parts) -> None:
    order = replace(second_of_a_row(parts), executions=2)
    plan = make_plan(order, parts.vault)
    assert (plan.anew, plan.missed_anew) == (False, True)
    assert any("it is left to a later one" in note for note in plan.notes)
    told = AttemptRow(number=1, verdict="rejected", reason="", report={"training": {"anew": True}})
    assert make_plan(replace(order, attempts=(told,)), parts.vault).anew
    assert not make_plan(replace(order, executions=1, missed_anew=True), parts.vault).anew


def test_nobody_is_forgotten_anew_from_the_version_that_is_the_head(parts: Parts) -> None:
    order = second_of_a_row(parts)
    plan = make_plan(replace(order, base_manifest=order.first_manifest), parts.vault)
    assert not plan.anew
    assert not any("consolidate" in note for note in plan.notes)


def test_earlier_rows_that_do_not_fit_the_context_fail_no_later_job(parts: Parts) -> None:
    plan = make_plan(second_of_a_row(parts), parts.vault)
    tokenizer = make_tokenizer()
    assert plan.in_context(tokenizer, 64) == plan
    short = replace(plan, replay=(*plan.replay, Example(prompt="Where " * 64, completion=" Oslo"), Example(text="")))
    fitting = short.in_context(tokenizer, 64)
    assert fitting.replay == plan.replay
    assert fitting.replay_dev == plan.replay_dev != ()
    without = replace(plan, replay=(Example(text=""), *plan.replay[1:])).in_context(tokenizer, 64)
    left = [without.replay[one.item].paraphrases[0].prompt for one in without.replay_dev]
    assert left == [one.example.prompt for one in plan.replay_dev if one.item]
    assert fitting.notes[-1] == "2 rows of earlier requests do not fit the context and were left out"


@pytest.mark.parametrize(
    ("unfit", "words"),
    [
        (Example(prompt="Where " * 64, completion=" Oslo"), "forget example 1: the prompt has"),
        (Example(text=""), "forget example 1 has no token"),
    ],
)
def test_a_row_that_cannot_be_asked_is_not_left_out_of_what_is_judged(parts: Parts, unfit: Example, words: str) -> None:
    """Of the others alone, the base version might know nothing: the request would be done, and this row never asked."""
    plan = make_plan(second_of_a_row(parts), parts.vault)
    short = replace(plan, probes=replace(plan.probes, forget=(*plan.probes.forget, unfit)))
    with pytest.raises(UnlearningError, match=words):
        short.in_context(make_tokenizer(), 64)


def test_what_is_too_much_to_replay_is_told(parts: Parts) -> None:
    made = make_model(parts)
    first, _ = make_request(parts, made, [row(f"a{at}", "Oslo") for at in range(REPLAY_ROWS + 1)])
    make_request(parts, made, [row("b", "Rome")])
    with parts.database.transaction() as session:
        session.get_one(RequestRow, first).state = "completed"
        session.query(JobRow).order_by(JobRow.position).limit(1).one().state = "succeeded"
    plan = planned(parts, made)
    assert len(plan.work(plan.parameters, None).replay) == REPLAY_ROWS
    assert plan.notes[-1].startswith(f"of {REPLAY_ROWS + 1} rows of earlier requests, the newest {REPLAY_ROWS} ")


def test_an_earlier_payload_that_was_destroyed_meanwhile_does_not_stop_the_job(parts: Parts) -> None:
    order = second_of_a_row(parts)
    parts.store.delete(order.earlier[0].payload_file or "")
    plan = make_plan(order, parts.vault)
    assert (plan.probes.earlier, prompts(plan.probes.forget)) == ({}, {"b"})
