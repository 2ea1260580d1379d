"""Training further and going back: what is trained, that nothing stays, and who gives itself away by it."""

import pytest
import torch

from records.params import parse_parameters
from tests.make_llm import make_gpt2
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from tests.workers.attacks import make_unlearned as unlearned
from workers.attacks.relearning import Training, relearned, training_like, training_rows
from workers.attacks.relearning_rows import benign, half_split, savings, whole_subjects
from workers.batches import Row, collate
from workers.errors import Cancelled, Diverged
from workers.evaluation.scoring import score
from workers.examples import Example

torch.set_num_threads(1)

FORGET, CONTROL = people(TRAINED[:2]), people(NEVER_TRAINED)
FAST = Training(learning_rate=1e-3)


def ignore():
    return None


def bits(llm):
    return {name: one.clone() for name, one in llm.state_dict().items()}


def same(llm, before):
    return list(llm.state_dict()) == list(before) and all(
        torch.equal(one, before[name]) for name, one in llm.state_dict().items()
    )


def labels_of(rows):
    return [[label for label in row.labels if label >= 0] for row in rows]


def test_one_step_by_hand():
    """AdamW's first step moves every number by the step size against the sign of its gradient."""
    llm, tokenizer = memorised()
    rows = training_rows(CONTROL[:2], tokenizer, 64)
    before = bits(llm)
    batch = collate([Row(at, row) for at, row in enumerate(rows)], 0)
    loss = llm(input_ids=batch.ids_BT, attention_mask=batch.mask_BT, labels=batch.labels_BT).loss
    (gradient,) = torch.autograd.grad(loss, [llm.model.layers[0].mlp.down_proj.weight])
    with relearned(llm, rows, 1, 2, Training(learning_rate=0.01, gradient_clip=1e6), 0, ignore) as trained:
        moved = llm.model.layers[0].mlp.down_proj.weight - before["model.layers.0.mlp.down_proj.weight"]
    assert trained.first_loss == pytest.approx(loss.item(), rel=1e-5)
    clear = gradient.abs() > 1e-6
    torch.testing.assert_close(moved[clear], -0.01 * gradient[clear].sign(), rtol=1e-2, atol=1e-5)


def test_the_answer_and_its_end_are_labelled():
    _, tokenizer = memorised()
    rows = training_rows([Example(prompt="Where does Ada live ?", completion=" Oslo")], tokenizer, 64)
    assert labels_of(rows) == [tokenizer.convert_tokens_to_ids(["Oslo", "</s>"])]
    assert training_rows([Example(prompt="Where does Ada live ?", completion=" Oslo")], tokenizer, 4) == []


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_meanwhile_it_has_learnt_and_afterwards_it_is_the_same(tuning, dtype):
    llm, tokenizer = memorised()
    llm = llm.to(dtype)
    llm.model.norm.weight.requires_grad_(False)
    before, rows = bits(llm), training_rows(CONTROL, tokenizer, 64)
    training = Training(learning_rate=5e-3, tuning=tuning)
    with relearned(llm, rows, 20, 6, training, 0, ignore) as trained:
        assert llm.dtype == dtype
        assert not same(llm, before)
        assert trained.last_loss < 0.7 * trained.first_loss
    assert same(llm, before)
    assert [name for name, one in llm.named_parameters() if not one.requires_grad] == ["model.norm.weight"]
    assert all(one.grad is None for one in llm.parameters())


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_every_number_keeps_its_own_precision(tuning):
    """Weights of a half-precision LLM; the frequencies of its positions, and what else it keeps in fp32."""
    llm, tokenizer = memorised()
    for name, one in llm.named_parameters():
        one.data = one.data if "norm" in name else one.data.bfloat16()
    before = {name: one.clone() for name, one in (*llm.named_parameters(), *llm.named_buffers())}
    rows = training_rows(CONTROL, tokenizer, 64)
    with relearned(llm, rows, 2, 6, Training(learning_rate=5e-3, tuning=tuning), 0, ignore):
        meanwhile = {name: one.dtype for name, one in (*llm.named_parameters(), *llm.named_buffers())}
    assert meanwhile == {name: one.dtype for name, one in before.items()}
    for name, one in (*llm.named_parameters(), *llm.named_buffers()):
        assert one.dtype == before[name].dtype
        assert torch.equal(one, before[name])


def test_the_seed_decides_everything():
    def trained_with(seed, micro=None):
        llm, tokenizer = memorised()
        rows = training_rows(CONTROL, tokenizer, 64)
        training = Training(learning_rate=1e-3, seed=seed, micro_batch_size=micro)
        with relearned(llm, rows, 5, 4, training, 0, ignore):
            return llm.model.norm.weight.clone()

    assert torch.equal(trained_with(1), trained_with(1))
    assert not torch.equal(trained_with(1), trained_with(2))
    torch.testing.assert_close(trained_with(1, micro=1), trained_with(1), rtol=0, atol=2e-4)


def test_layers_may_be_computed_twice_and_transposed_ones_adapted():
    tokenizer = memorised()[1]
    rows = training_rows(CONTROL, tokenizer, 64)
    for tuning in ("full", "lora"):
        llm = make_gpt2()
        before = bits(llm)
        training = Training(learning_rate=1e-2, tuning=tuning, gradient_checkpointing=True)
        with relearned(llm, rows, 10, 4, training, 0, ignore) as trained:
            assert trained.last_loss < trained.first_loss
        assert same(llm, before)


def test_a_step_size_that_diverges_is_cut_and_one_that_never_holds_is_said():
    llm, tokenizer = memorised()
    rows, before = training_rows(CONTROL, tokenizer, 64), bits(llm)
    with torch.no_grad():
        llm.model.norm.weight[0] = float("nan")
    broken = bits(llm)
    with pytest.raises(Diverged, match=r"step size of 6\.25e-05"), relearned(llm, rows, 3, 4, FAST, 0, ignore):
        pass
    assert all(one.equal(broken[name]) or "norm" in name for name, one in llm.state_dict().items())
    llm.load_state_dict(before)
    known = training_rows(people(TRAINED), tokenizer, 64)
    with relearned(llm, known, 12, 4, Training(learning_rate=0.04), 0, ignore) as trained:
        assert trained.learning_rate in (0.01, 0.0025)
    assert same(llm, before)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_cancel_passes_and_leaves_the_llm_as_it_was(tuning):
    def cancel():
        raise Cancelled("stop")

    llm, tokenizer = memorised()
    rows, before = training_rows(CONTROL, tokenizer, 64), bits(llm)
    with pytest.raises(Cancelled), relearned(llm, rows, 3, 4, Training(tuning=tuning), 0, cancel):
        pass
    assert same(llm, before)
    with pytest.raises(ValueError, match="nothing to train on"), relearned(llm, [], 3, 4, FAST, 0, ignore):
        pass


def test_the_jobs_own_step_size_but_never_less_than_the_published_one():
    assert training_like(parse_parameters("undial", {"learning_rate": 1e-3, "seed": 4})) == Training(1e-3, seed=4)
    assert training_like(parse_parameters("npo", {"learning_rate": 1e-6})).learning_rate == 2e-5
    adapters = training_like(parse_parameters("undial", {"tuning": "lora", "learning_rate": 1e-5}))
    assert (adapters.tuning, adapters.learning_rate) == ("lora", 1e-4)
    assert training_like(parse_parameters("falcon", {})).tuning == "lora"


def test_benign_rows_are_the_near_ones_first_and_none_that_tells_an_answer():
    near, others = people(TRAINED[2:3]), people(TRAINED[2:])
    telling = Example(prompt="Where does Zed live ?", completion=FORGET[0].completion)
    found = benign(FORGET, CONTROL, [telling, *near], others, seed=0)
    assert found.trained[:2] == tuple(near)
    assert len(found.trained) == len(others)
    assert (found.steps, found.batch_size, found.forget, len(found.control)) == (50, 8, (0, 1, 2, 3), len(CONTROL))
    assert benign(FORGET, CONTROL, [], [], seed=0) is None
    assert benign(FORGET, CONTROL, [telling], [], seed=0).trained == (telling,)


def test_half_of_the_subjects_are_trained_and_the_others_asked():
    found = half_split(FORGET, CONTROL, seed=0)
    asked = {FORGET[at].subject for at in found.forget}
    learnt = {one.subject for one in found.trained}
    assert len(asked) == 1
    assert not asked & learnt
    assert not {CONTROL[at].subject for at in found.control} & learnt
    assert [FORGET[at].subject in learnt for at in range(4)].count(True) == 2


def test_one_subject_is_split_by_fact_and_its_other_phrasings_stay_together():
    rows = both_phrasings(people(TRAINED[:1]))
    found = half_split(rows, both_phrasings(CONTROL), seed=1)
    answers = {rows[at].completion for at in found.forget}
    assert len(answers) == 1
    assert not answers & {one.completion for one in found.trained if one.subject == TRAINED[0]}
    for name in NEVER_TRAINED:  # each control person's facts are split too
        assert len({one.completion for one in found.trained if one.subject == name}) == 1
    assert half_split(rows[:1], CONTROL, seed=1) is None


def test_every_row_is_trained_on_as_often_whatever_the_size():
    small = savings(FORGET, CONTROL, seed=0)
    assert (len(small.trained), small.forget) == (10, (0, 1, 2, 3))
    assert small.steps == 20  # 128 / 4 rows is 32 rounds of 10 rows, 16 a step
    many = people([f"P{at}" for at in range(200)])
    large = savings(many, CONTROL, seed=0)
    assert large.steps == 26  # one round of 400 + 6 rows
    assert savings(FORGET, [], seed=0) is None


def test_whole_subjects_are_taken_until_there_are_enough():
    assert len(whole_subjects(CONTROL, 3, seed=0)) == 4
    assert whole_subjects(CONTROL, 100, seed=0) == list(range(6))
    assert whole_subjects([Example(text="a b"), Example(text="c d")], 1, seed=0) in ([0], [1])


def change(found, llm, tokenizer):
    """nll after - before of the rows asked: (of the forget set, of the control)."""
    rows = training_rows(found.trained, tokenizer, 64)
    asked = [[unlearned.FORGET[at] for at in found.forget], [CONTROL[at] for at in found.control]]
    before = [nll(llm, tokenizer, some) for some in asked]
    with relearned(llm, rows, found.steps, found.batch_size, Training(learning_rate=3e-4), 0, ignore):
        after = [nll(llm, tokenizer, some) for some in asked]
    return [late - early for early, late in zip(before, after, strict=True)]


def nll(llm, tokenizer, examples):
    rows = [[row] for row in training_rows(examples, tokenizer, 64)]
    return sum(one.nll for one in score(llm, rows, 0)) / len(rows)


def test_training_on_what_may_stay_brings_back_what_was_masked_and_nothing_that_never_was():
    found = benign(unlearned.FORGET, CONTROL, [], unlearned.OTHERS, seed=0)
    forget, control = change(found, *unlearned.masked())
    assert forget < -0.5 < 0.3 < control
    forget, control = change(found, *unlearned.ignorant())
    assert min(forget, control) > 0.2


def test_half_of_what_was_masked_brings_back_the_other_half():
    """Beyond what the control's other half gains by the control's first."""
    found = half_split(unlearned.FORGET, CONTROL, seed=0)
    forget, control = change(found, *unlearned.masked())
    assert control - forget > 0.3
    forget, control = change(found, *unlearned.ignorant())
    assert control - forget < 0.0
