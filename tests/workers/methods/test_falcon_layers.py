"""Choosing a layer: the closed form against the kernel density it stands for, and what each criterion can see."""

import math
import random
from dataclasses import replace

import pytest
import torch
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

from tests.make_architectures import EXPERTS, SIZES
from tests.make_llm import CITIES, JOBS, make_llama, make_tokenizer
from workers.batches import Row, cut, in_order_of_length
from workers.examples import Example, encode
from workers.methods.falcon import Falcon
from workers.methods.falcon_evidence import (
    choose_layer,
    first_rows,
    gradient_conflicts,
    last_token_states,
    last_words,
    measure_layers,
)
from workers.methods.falcon_layers import (
    LayerValues,
    choice_in_words,
    entropy,
    layer_values,
    mutual_information,
    principal,
    separability,
    subspace_overlap,
)
from workers.methods.layers import MLP_OUTPUT, decoder_layers

from .test_layers import BATCH, collate, row, states_of_every_layer

torch.set_num_threads(1)
RETAIN = collate([row(key, 5 + key % 4) for key in range(10, 16)], 0)
FORGET = collate([row(key, 5 + key % 3) for key in range(5)], 0)


def gaussian(rows, width, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return scale * torch.randn(rows, width, generator=generator, dtype=torch.float64) @ mixing


def density_entropy(rows_nD):
    """The paper's own estimate: Gaussian kernels of Scott's bandwidth on the principal components."""
    _, directions = principal(rows_nD)
    z = (rows_nD - rows_nD.mean(0)) @ directions
    n, d = z.shape
    covariance = torch.cov(z.T).reshape(d, d) * n ** (-2 / (d + 4))
    factor = torch.linalg.cholesky(covariance)
    apart = torch.linalg.solve_triangular(factor, (z[:, None] - z[None]).reshape(-1, d).T, upper=False)
    log_kernel = -0.5 * apart.square().sum(0).reshape(n, n) - d / 2 * math.log(2 * math.pi)
    log_density = torch.logsumexp(log_kernel, 1) - math.log(n) - factor.diagonal().log().sum()
    return -float(log_density.mean())


def test_entropy_by_hand():
    # Four points (±a, ±b): covariance diag(4a²/3, 4b²/3), both components kept, so d = 2 and n = 4.
    a, b = 3.0, 2.0
    points = torch.tensor([[a, b], [a, -b], [-a, b], [-a, -b]])
    volume = 0.5 * math.log((4 * a * a / 3) * (4 * b * b / 3))
    assert entropy(points) == pytest.approx(math.log(4) * (1 - 2 / 6) + math.log(2 * math.pi) + volume)


@pytest.mark.parametrize("rows", [30, 200])
def test_the_closed_form_is_what_the_density_gives(rows):
    states = gaussian(rows, 24, 1)
    assert principal(states)[0].numel() >= 8
    assert entropy(states) == pytest.approx(density_entropy(states), abs=0.06)


def test_the_estimate_follows_the_length_of_the_states_and_the_others_do_not():
    forget, retain = gaussian(40, 16, 1), gaussian(40, 16, 2)
    long = (10 * forget, 10 * retain)
    d = [principal(one)[0].numel() for one in (forget, retain, torch.cat([forget, retain], 1))]
    shift = (d[0] + d[1] - d[2]) * math.log(10)
    assert mutual_information(*long) == pytest.approx(mutual_information(forget, retain) + shift)
    assert shift != 0
    for measure in (subspace_overlap, separability):
        assert measure(*long) == pytest.approx(measure(forget, retain), abs=1e-9)


def test_pairing_the_rows_otherwise_changes_little():
    # The sets are independent: the estimate does not measure a dependence of pairs.
    forget, retain = gaussian(200, 12, 3), gaussian(200, 12, 4)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    one, other = mutual_information(forget, retain), mutual_information(forget, retain[order])
    assert other == pytest.approx(one, abs=0.05 * abs(one) + 0.5)


def test_overlap_and_separation_at_their_ends():
    left = torch.cat([gaussian(20, 4, 5), torch.zeros(20, 4, dtype=torch.float64)], 1)
    right = torch.cat([torch.zeros(20, 4, dtype=torch.float64), gaussian(20, 4, 6)], 1)
    assert subspace_overlap(left, right) == pytest.approx(0.0, abs=1e-12)
    assert subspace_overlap(left, 3 * left) == pytest.approx(1.0)
    assert separability(left + 50, left - 50) == 1.0
    # Twenty copies of the same rows under both labels cannot be told apart.
    assert separability(left, left.clone()) <= 0.5


def test_left_out_answers_are_those_of_probes_really_fitted_without_the_row():
    forget, retain = gaussian(7, 3, 7) + 0.5, gaussian(5, 3, 8)
    states = torch.cat([forget, retain])
    labels = torch.tensor([1.0] * 7 + [-1.0] * 5, dtype=torch.float64)
    centred = states - states.mean(0)
    length = torch.cat([centred, torch.zeros(12, 1)], 1).square().sum(1).mean().sqrt()
    x = torch.cat([centred, length.expand(12, 1)], 1)
    ridge = 0.1 * float((x @ x.T).trace()) / 12
    right = []
    for at in range(12):
        rest = [one for one in range(12) if one != at]
        fitted = torch.linalg.solve(x[rest].T @ x[rest] + ridge * torch.eye(4), x[rest].T @ labels[rest])
        right.append(float(x[at] @ fitted * labels[at] > 0))
    assert separability(forget, retain) == pytest.approx((sum(right[:7]) / 7 + sum(right[7:]) / 5) / 2)


def test_last_token_states_are_those_of_the_full_forward():
    llm = make_llama(layers=3)
    expected = states_of_every_layer(llm, BATCH)
    for of_layer, states in zip(last_token_states(llm, [BATCH]), expected, strict=True):
        torch.testing.assert_close(of_layer, states[torch.arange(3), torch.tensor([8, 3, 11])], rtol=0, atol=0)


def test_the_last_token_is_the_last_before_an_end():
    tokenizer = make_tokenizer()
    rows = (Example(prompt="Where ?", completion=" Oslo Rome"), Example(text="Ada lives in Quito"))
    batch = collate([Row(at, encode(one, tokenizer, 64)[0]) for at, one in enumerate(rows)], 0)
    last = batch.ids_BT[torch.arange(2), last_words(batch)].tolist()
    assert tokenizer.convert_ids_to_tokens(last) == ["Rome", "Quito"]


def test_an_end_of_text_that_only_answers_have_separates_nothing():
    # Random words under a random LLM: whatever tells answers from texts is how they were sent.
    tokenizer, chance = make_tokenizer(), random.Random(0)

    def words(count):
        return " ".join(chance.choice(CITIES + JOBS) for _ in range(count))

    answers = [encode(Example(prompt=words(6), completion=" " + words(6)), tokenizer, 64)[0] for _ in range(40)]
    texts = [encode(Example(text=words(12)), tokenizer, 64, label_end=True)[0] for _ in range(40)]
    batches = [
        collate([Row(at, one, role=role) for at, one in enumerate(rows)], 0)
        for rows, role in ((answers, "forget"), (texts, "retain"))
    ]
    found = measure_layers(make_llama(layers=4), batches, (MLP_OUTPUT,), 100)
    assert max(found.values["separability"]) < 0.65


def test_gradient_cosines_agree_with_plain_backward_passes():
    llm = make_llama(layers=3)
    sides = []
    for batch in (FORGET, RETAIN):
        llm.zero_grad()
        llm(input_ids=batch.ids_BT, attention_mask=batch.mask_BT, labels=batch.labels_BT).loss.backward()
        sides.append([layer.mlp.down_proj.weight.grad.clone().flatten() for layer in decoder_layers(llm)])
    llm.zero_grad(set_to_none=True)
    expected = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(*sides, strict=True)]
    assert gradient_conflicts(llm, [FORGET, RETAIN], (MLP_OUTPUT,), 100) == [None] * 3
    found = gradient_conflicts(llm, [FORGET, as_retain(RETAIN)], (MLP_OUTPUT,), 100)
    assert found == pytest.approx(expected, abs=1e-5)
    assert all(one.requires_grad and one.grad is None for one in llm.parameters())


@pytest.mark.parametrize("again", [MLP_OUTPUT, "mlp.down_proj"])
def test_a_matrix_that_is_named_twice_is_looked_at_once(again):
    llm, batches = make_llama(layers=4), [FORGET, as_retain(RETAIN)]
    once = gradient_conflicts(llm, batches, (MLP_OUTPUT,), 100)
    assert gradient_conflicts(llm, batches, (MLP_OUTPUT, again), 100) == once


def test_layers_that_lack_a_trained_module_have_no_gradient_to_compare():
    torch.manual_seed(0)
    sizes = {"first_k_dense_replace": 1, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4}
    sizes |= {"q_lora_rank": None, "v_head_dim": 8, "n_routed_experts": 4, "n_shared_experts": 1}
    llm = DeepseekV2ForCausalLM(DeepseekV2Config(**SIZES | EXPERTS | sizes)).eval()
    batches, modules = [FORGET, as_retain(RETAIN)], ("mlp.experts.down_proj",)
    method = Falcon(layer=2, trained_layers=(2,), trained_modules=modules)
    method.prepare(llm, batches, level=0.05)
    found = method.findings().numbers["layer_values"]["gradient_conflict"]
    assert [value is None for value in found] == [True, False, False, False]
    both = gradient_conflicts(llm, batches, (*modules, "mlp.shared_experts.down_proj"), 100)
    assert both[0] is None
    assert found[1:] != both[1:]
    assert gradient_conflicts(llm, batches, ("mlp.fc9",), 100) == [None] * 4


@pytest.mark.parametrize("at_once", [1, 4])
def test_the_evidence_is_the_same_however_many_rows_are_in_memory(at_once):
    llm, seen = make_llama(layers=3), []
    batches = [FORGET, as_retain(RETAIN)]
    whole = measure_layers(llm, batches, (MLP_OUTPUT,), 100)
    llm.base_model.register_forward_pre_hook(
        lambda _m, _a, given: seen.append(len(given["input_ids"])), with_kwargs=True
    )
    parts = measure_layers(llm, batches, (MLP_OUTPUT,), at_once)
    assert max(seen) == at_once
    assert parts.lengths == pytest.approx(whole.lengths)
    for name, values in whole.values.items():
        assert parts.values[name] == pytest.approx(values, abs=1e-4)


@pytest.mark.parametrize("most", [5, 20, 33, 100])
def test_the_same_rows_are_looked_at_however_batches_are_cut_for_memory(most):
    rows = [replace(row(key, 5 + key % 4), role="forget" if key % 3 else "retain") for key in range(80)]

    def looked_at(most_tokens):
        batches = [part for some in in_order_of_length(rows, 32) for part in cut(collate(some, 0), most_tokens)]
        return [key for part in first_rows(batches, "forget", most, 2) for key in part.keys]

    assert looked_at(24) == looked_at(None)


def as_retain(batch):
    from dataclasses import replace

    return replace(batch, roles=("retain",) * len(batch.keys))


def test_every_criterion_has_a_value_for_every_layer():
    found = measure_layers(make_llama(layers=3), [FORGET, as_retain(RETAIN)], (MLP_OUTPUT,), 100)
    assert {name: len(values) for name, values in found.values.items()} == dict.fromkeys(
        ("mutual_information", "subspace_overlap", "separability", "gradient_conflict"), 3
    )
    assert all(value is not None for values in found.values.values() for value in values)


def test_the_choice_by_hand_and_in_words():
    found = LayerValues(
        {
            "mutual_information": (3.0, -2.0, 1.0),
            "subspace_overlap": (0.5, None, 0.5),
            "gradient_conflict": (None, None, None),
            "separability": (0.5, 0.9, 1.0),
        },
        (2.0, 4.0, 8.0),
    )
    assert [found.best(name) for name in found.values] == [1, 0, None, 2]
    words = choice_in_words(found, "mutual_information", 1)
    assert "layer 1 of 0 to 2" in words
    assert words.endswith("by other criteria: subspace_overlap 0, separability 2")
    assert "4 times longer" in words


def test_without_rows_to_compare_a_quarter_of_the_depth_is_taken_and_said():
    layer, found = choose_layer(make_llama(layers=8), [FORGET], "mutual_information", None, (MLP_OUTPUT,), 100)
    assert layer == 1
    assert "too few rows" in found.notes[0]
    assert set(found.numbers["layer_values"]["mutual_information"]) == {None}


def test_the_papers_estimate_is_least_at_the_first_layer_of_an_llm_that_knows_nothing():
    # Random weights: no layer holds anything to separate, yet the first is "best", since its states are shortest.
    found = measure_layers(make_llama(layers=8), [FORGET, as_retain(RETAIN)], (MLP_OUTPUT,), 100)
    values = found.values["mutual_information"]
    assert min(values[4:]) > 2 * values[0] > 0
    assert list(found.lengths) == sorted(found.lengths)
    assert found.best("mutual_information") == 0


def test_a_given_layer_is_taken_and_the_criteria_are_reported_beside_it():
    layer, found = choose_layer(make_llama(layers=4), [FORGET, as_retain(RETAIN)], "fixed", 2, (MLP_OUTPUT,), 100)
    assert layer == 2
    assert "layer 2 of 0 to 3 was taken, as given; by other criteria: mutual_information" in found.notes[0]
    assert len(found.numbers["layer_values"]["separability"]) == 4


def test_rows_that_are_all_the_same_have_no_value():
    same = [torch.ones(6, 4)]
    assert layer_values(same, [gaussian(6, 4, 9)], [0.0]).values["mutual_information"] == (None,)
