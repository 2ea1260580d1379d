"""The loop on an LLM that has really memorised a few people."""

import pickle
from contextlib import nullcontext

import pytest
import torch

from records.params import parse_parameters
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from workers.errors import Cancelled, Diverged, ExampleTooLong, OutOfMemory, UnlearningError, Unsuitable
from workers.evaluation.scoring import Score, score
from workers.examples import Example, Probe, encode, with_phrasing
from workers.failures import explain
from workers.lessons import plan_lessons
from workers.loop import UnlearnWork, _prepare, unlearn
from workers.methods.interface import Losses
from workers.schedule import step_size_factor
from workers.stopping import StopRule, active_items, stop_rule
from workers.training_run import TrainingRun

torch.set_num_threads(1)

FORGET = people(TRAINED[:1])
OTHERS = people(TRAINED[1:])
AS_GIVEN = {"rewordings": 0, "forget_paraphrases": False}
FAST = {"learning_rate": 1e-3, "target": "floor", "epochs": 40, "stop_ratio": 10.0, "repair_steps": 0} | AS_GIVEN


def ignore(progress):
    return None


def scores(llm, tokenizer, examples):
    return score(llm, [encode(one, tokenizer, 64) for one in examples], 0)


def level(llm, tokenizer):
    found = scores(llm, tokenizer, people(NEVER_TRAINED))
    return sum(one.token_probability for one in found) / len(found)


def run(parameters, on_step=ignore, **work):
    llm, tokenizer = memorised()
    wanted = UnlearnWork(
        **{"forget": FORGET, "retain": both_phrasings(OTHERS), "control_level": level(llm, tokenizer)} | work,
        parameters=parameters,
    )
    return llm, tokenizer, unlearn(llm, tokenizer, wanted, on_step)


def test_forgets_every_item_and_keeps_the_others():
    llm, tokenizer, summary = run(FAST)
    assert summary.known_items == 0
    assert summary.stopped == "every item is at the never-trained level"
    forgotten = scores(llm, tokenizer, FORGET)
    assert not any(one.exact for one in forgotten)
    assert max(one.token_probability for one in forgotten) <= summary.stop_level
    kept = scores(llm, tokenizer, OTHERS)
    assert sum(one.exact for one in kept) >= 0.9 * len(kept)


def test_without_a_retain_term_the_others_suffer():
    llm, tokenizer, _ = run(FAST | {"retain_kind": "none"})
    held, _, _ = run(FAST)
    alone = sum(one.token_probability for one in scores(llm, tokenizer, OTHERS))
    assert alone < sum(one.token_probability for one in scores(held, tokenizer, OTHERS))


def test_repair_follows_the_last_forgotten_item_and_all_are_asked_again():
    seen = []
    _, _, summary = run(FAST | {"repair_steps": 6, "retain_batch_size": 4}, seen.append)
    alone = [one.step for one in seen if one.active_items == 0]
    assert alone[:6] == list(range(alone[0], alone[0] + 6))
    assert len(alone) in {6, 12, 18}
    assert summary.known_items == 0


def test_repair_follows_the_last_epoch_too():
    # No item reaches a probability of 1e-5 in two epochs, of one batch each.
    _, _, summary = run(FAST | {"epochs": 2, "repair_steps": 6, "retain_batch_size": 4}, control_level=1e-6)
    assert (summary.epochs, summary.steps) == (2, 2 + 6)
    assert summary.stopped == "the limit of 2 epochs"
    assert summary.known_items > 0


@pytest.mark.parametrize(("epochs", "share", "steps"), [(2, 0.1, 2 + 6), (20, 0.4, 20 + 8), (20, 0.0, 20 + 6)])
def test_a_repair_grows_with_the_job(epochs, share, steps):
    parameters = FAST | {"epochs": epochs, "repair_steps": 6, "repair_share": share, "retain_batch_size": 4}
    _, _, summary = run(parameters, control_level=1e-9)
    assert (summary.epochs, summary.steps) == (epochs, steps)


def test_repair_mends_the_others():
    # Steps so large that there is something to mend.
    known = []
    llm, tokenizer = memorised()

    def ask(progress):
        if progress.active_items == 0:
            known.append(sum(one.token_probability for one in scores(llm, tokenizer, OTHERS)))

    parameters = FAST | {"repair_steps": 20, "learning_rate": 3e-3}
    unlearn(llm, tokenizer, UnlearnWork(forget=FORGET, retain=both_phrasings(OTHERS), parameters=parameters), ask)
    assert known[19] > known[0]


def test_nothing_known_means_no_repair():
    _, _, summary = run(FAST | {"repair_steps": 6}, forget=people(NEVER_TRAINED))
    assert summary.steps == 0


def test_retain_rows_a_step_are_as_many_as_asked_for():
    drawn = []

    class Counting:
        wants_retain = True

        def prepare(self, teacher, batches, level): ...

        def losses(self, student, forget, retain):
            self.asked = len(retain.keys)
            weight = next(student.parameters())
            return Losses(weight.sum() * 0.0, weight.sum() * 0.0)

        def backward(self, losses, parameters):
            drawn.append(self.asked)

    llm, tokenizer = memorised()
    settings = parse_parameters("undial", FAST | {"retain_batch_size": 3, "max_steps": 2})
    lessons = plan_lessons(UnlearnWork(forget=FORGET, retain=both_phrasings(OTHERS)), tokenizer, 64, 6, 0)
    TrainingRun(llm, Counting(), settings, lessons, stop_rule(None, 10.0), 0).train(ignore, nullcontext)
    assert drawn == [3, 3]


@pytest.mark.parametrize("trained_on", [False, True])
def test_paraphrases_that_guide_the_stop_are_trained_on_if_wished(trained_on):
    _, tokenizer = memorised()
    other = Example(prompt=f"Say: {FORGET[1].prompt}", completion=FORGET[1].completion)
    parameters = AS_GIVEN | {"forget_paraphrases": trained_on}
    work = UnlearnWork(forget=FORGET[:2], dev_probes=[Probe(1, 1, other)], parameters=parameters)
    lessons = plan_lessons(work, tokenizer, 64, 0, 0)
    (asked,) = (windows for item, windows in lessons.judged[2:] if item == 1)
    assert [len(rows) for rows in lessons.rows] == ([1, 2] if trained_on else [1, 1])
    assert ([row.encoded for row in lessons.rows[1][1:]] == asked) is trained_on
    keys = [row.key for rows in lessons.rows for row in rows]
    assert keys == list(range(len(keys)))


def test_items_at_the_level_get_no_step():
    # One item is known, the other was never trained: only the first is active.
    seen = []
    never = people(NEVER_TRAINED[:1])[:1]
    _, _, summary = run(FAST, seen.append, forget=[FORGET[0], *never])
    assert {progress.active_items for progress in seen} == {1}
    assert seen[0].items == 2
    assert summary.known_items == 0


def test_nothing_known_means_no_step():
    llm, _, summary = run(FAST, forget=people(NEVER_TRAINED))
    untouched, _ = memorised()
    assert (summary.steps, summary.forget_loss) == (0, None)
    assert all(torch.equal(a, b) for a, b in zip(llm.parameters(), untouched.parameters(), strict=True))


def test_an_item_stays_active_while_its_dev_phrasing_is_known():
    probe = Probe(0, 1, with_phrasing(FORGET[0], FORGET[0].paraphrases[0]))
    _, _, without = run(FAST)
    _, _, probed = run(FAST, dev_probes=[probe])
    assert probed.steps > without.steps


def test_replayed_rows_are_judged_like_the_rest():
    _, _, summary = run(FAST, replay=people(TRAINED[1:2]))
    assert summary.items == 4
    assert any("same subject" in note for note in summary.notes)


def test_same_seed_same_bits_other_seed_others():
    first, _, _ = run(FAST | {"epochs": 3, "batch_size": 2})
    again, _, _ = run(FAST | {"epochs": 3, "batch_size": 2})
    other, _, _ = run(FAST | {"epochs": 3, "batch_size": 2, "seed": 1})
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_micro_batches_change_nothing_but_round_off():
    whole, _, _ = run(FAST | {"max_steps": 3})
    parts, _, _ = run(FAST | {"max_steps": 3, "micro_batch_size": 1})
    for one, two in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_adapters_are_merged_and_leave_an_ordinary_llm(tmp_path):
    llm, _, summary = run(FAST | {"tuning": "lora", "lora_rank": 4, "learning_rate": 5e-3})
    plain, _ = memorised()
    assert summary.steps > 0
    assert list(llm.state_dict()) == list(plain.state_dict())
    assert not hasattr(llm, "peft_config")
    llm.save_pretrained(tmp_path)
    loaded = type(plain).from_pretrained(tmp_path)
    ids = torch.tensor([[1, 5, 6]])
    torch.testing.assert_close(loaded(ids).logits, llm(ids).logits)


def test_the_stored_dtype_comes_back():
    llm, tokenizer = memorised()
    llm.to(torch.bfloat16)
    unlearn(llm, tokenizer, UnlearnWork(forget=FORGET, parameters=FAST | {"max_steps": 1}), ignore)
    assert {one.dtype for one in llm.parameters()} == {torch.bfloat16}


def stored_in_half(folder):
    """As the library loads it: the weights in bfloat16, the frequencies of positions in float32."""
    llm, tokenizer = memorised()
    llm.to(torch.bfloat16).save_pretrained(folder)
    return type(llm).from_pretrained(folder, dtype="auto").eval(), tokenizer


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_positions_are_not_rounded_with_the_weights(tuning, tmp_path):
    llm, tokenizer = stored_in_half(tmp_path)
    before = llm.model.rotary_emb.inv_freq.clone()
    assert not torch.equal(before, before.bfloat16().float())
    unlearn(llm, tokenizer, UnlearnWork(forget=FORGET, parameters=FAST | {"max_steps": 1, "tuning": tuning}), ignore)
    assert {one.dtype for one in llm.parameters()} == {torch.bfloat16}
    assert llm.model.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(llm.model.rotary_emb.inv_freq, before)


def test_a_teacher_in_half_precision_knows_its_positions(tmp_path):
    student, tokenizer = stored_in_half(tmp_path)
    settings, taught_by = parse_parameters("undial", FAST), []

    class Asked:
        wants_retain = False

        def prepare(self, teacher, batches, level):
            taught_by.append(teacher)

    lessons = plan_lessons(UnlearnWork(forget=FORGET), tokenizer, 64, 0, 0)
    run = TrainingRun(student, Asked(), settings, lessons, stop_rule(None, 10.0), 0)
    _prepare(run, lambda: type(student).from_pretrained(tmp_path, dtype=torch.float32), settings)
    [teacher] = taught_by
    assert {one.dtype for one in teacher.parameters()} == {torch.bfloat16}
    assert torch.equal(teacher.model.rotary_emb.inv_freq, student.model.rotary_emb.inv_freq)
    assert student.model.rotary_emb.inv_freq.dtype == torch.float32


def test_another_teacher_is_not_changed():
    teacher, _ = memorised()
    before = {name: one.clone() for name, one in teacher.state_dict().items()}
    llm, tokenizer = memorised()
    unlearn(llm, tokenizer, UnlearnWork(forget=FORGET, parameters=FAST | {"max_steps": 2}), ignore, lambda: teacher)
    assert all(torch.equal(one, before[name]) for name, one in teacher.state_dict().items())


def test_progress_counts_up_and_cancelling_ends_at_a_step():
    seen = []

    def stop_at_three(progress):
        seen.append(progress)
        if progress.step == 3:
            raise Cancelled("the request was cancelled")

    with pytest.raises(Cancelled):
        run(FAST, stop_at_three)
    assert [one.step for one in seen] == [1, 2, 3]
    assert all(0 < one.fraction <= 1 for one in seen)


def test_a_loss_that_is_no_number_is_said_in_words():
    llm, tokenizer = memorised()

    def poison(progress):
        with torch.no_grad():
            llm.model.norm.weight.fill_(float("nan"))

    with pytest.raises(Diverged, match="step 1"):
        unlearn(llm, tokenizer, UnlearnWork(forget=FORGET, parameters=FAST), poison)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 99 bytes"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.OutOfMemoryError("CUDA out of memory."),
        torch.AcceleratorError("CUDA error: out of memory"),
        MemoryError(),
    ],
    ids=repr,
)
def test_memory_errors_are_said_in_words(error):
    assert explain(error).code == "out_of_memory"

    def starve(progress):
        raise error

    with pytest.raises(OutOfMemory, match="micro_batch_size"):
        run(FAST, starve)


def test_other_runtime_errors_pass_unchanged():
    def break_down(progress):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        run(FAST, break_down)


def test_rows_that_cannot_be_learnt_from_are_refused():
    long = Example(prompt="Ada " * 70, completion=" Oslo")
    with pytest.raises(ExampleTooLong, match="forget example 0"):
        run(FAST, forget=[long])
    llm, tokenizer = memorised()
    tokenizer.backend_tokenizer.post_processor = None
    for too_short in (Example(text="Ada"), Example(prompt=" ", completion="\t")):  # the tokenizer makes nothing of it
        with pytest.raises(UnlearningError, match="forget example 0 has no token"):
            unlearn(llm, tokenizer, UnlearnWork(forget=[too_short], parameters=FAST), ignore)


@pytest.mark.parametrize("told_by", ["the library", "its codes"])
def test_quantised_weights_are_refused_in_words_and_left_as_they_are(told_by):
    llm, tokenizer = memorised()
    weight = llm.model.layers[0].mlp.down_proj.weight
    if told_by == "the library":
        llm.is_quantized = True
    else:
        llm.requires_grad_(requires_grad=False)
        weight.data = weight.data.to(torch.int8)
    before = weight.detach().clone()
    with pytest.raises(Unsuitable, match="quantised"):
        unlearn(llm, tokenizer, UnlearnWork(forget=FORGET, parameters=FAST), ignore)
    assert weight.dtype == before.dtype
    assert torch.equal(weight, before)


def test_a_paraphrase_that_does_not_fit_is_left_out_and_told():
    _, tokenizer = memorised()
    long = Example(prompt="Where " * 80, completion=" Oslo")
    probes = [Probe(0, 1, long), Probe(1, 1, Example(prompt="Where ?", completion=" Oslo"))]
    lessons = plan_lessons(UnlearnWork(forget=FORGET, dev_probes=probes, parameters=AS_GIVEN), tokenizer, 64, 0, 0)
    assert [item for item, _ in lessons.judged] == [0, 1, 1]
    assert "1 paraphrases whose prompt fills the context were left out" in lessons.notes


@pytest.mark.parametrize("kind", [Cancelled, Diverged, OutOfMemory, ExampleTooLong])
def test_errors_survive_pickling(kind):
    error = pickle.loads(pickle.dumps(kind("three words here")))
    assert (type(error), str(error)) == (kind, "three words here")


def test_step_size_by_hand():
    warm = parse_parameters("undial", {"warmup_steps": 2, "schedule": "linear"})
    assert [step_size_factor(step, 6, warm) for step in range(6)] == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    flat = parse_parameters("undial", {})
    assert {step_size_factor(step, 6, flat) for step in range(6)} == {1.0}


def made_score(probability, exact):
    return Score(3, 1.0, probability, exact, 0.0, 0.0, 0.0)


def test_items_are_judged_one_by_one():
    # The mean (0.0525) is at the level; the exact one and the likely one are active all the same.
    rule = StopRule(level=0.05, ratio=1.05)
    found = [made_score(p, e) for p, e in ((0.05, True), (0.0525, False), (0.06, False), (0.0, False))]
    assert active_items(rule, found, [0, 1, 2, 3], [None] * 4) == [0, 2]
    assert active_items(rule, [*found, made_score(0.9, False)], [0, 1, 2, 3, 3], [None] * 5) == [0, 2, 3]


def test_being_exact_tells_nothing_of_an_answer_that_anybody_gives():
    # A thinned answer may be a function word, which an LLM that never met the item puts first as well.
    rule = StopRule(level=0.05, ratio=1.5)
    assert not rule.still_known(made_score(0.95, True), own_level=0.95)
    assert not rule.still_known(made_score(1.0, True), own_level=0.95)  # 1.5 times the level is more than there is
    assert not rule.still_known(made_score(0.74, True), own_level=0.5)
    assert rule.still_known(made_score(0.76, True), own_level=0.5)
    assert rule.still_known(made_score(0.01, True), own_level=0.49)
    assert rule.still_known(made_score(0.01, True))


def test_without_a_control_a_level_is_assumed():
    assert stop_rule(None, 1.0).level == 0.1
