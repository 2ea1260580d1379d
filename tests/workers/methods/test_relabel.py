"""Random labels and adversarial samples: which labels are learnt, and how."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.make_llm import make_gpt2, make_llama
from tests.workers.methods.reference import FORGET, RETAIN, agree, check, cross_entropies, logits, nlls, random_tokens
from tests.workers.methods.reference import token_mean as mean
from workers.batches import Encoded, collate
from workers.methods.adversarial_labels import LikeliestOther, likeliest_other, make_adversarial_labels
from workers.methods.answers import weighted_mean
from workers.methods.random_labels import draw_labels, make_random_labels

torch.set_num_threads(1)


def test_the_likeliest_other_by_hand():
    logits_NV = torch.tensor([[5.0, 2.0, 3.0], [5.0, 2.0, 3.0], [1.0, 1.0, 0.0]])
    assert likeliest_other(logits_NV, torch.tensor([0, 2, 2])).tolist() == [2, 0, 0]


@pytest.mark.parametrize("make", [make_llama, make_gpt2])
def test_adversarial_labels_come_from_the_position_before_and_are_never_the_token(make):
    teacher = make(seed=2)
    term = LikeliestOther()
    batch = collate([*FORGET, *RETAIN], 0)
    term.prepare(teacher, [batch], level=0.05)
    found = term.labels(batch).tolist()
    expected = []
    for row in [*FORGET, *RETAIN]:
        # logits() reads position j - 1 for the token at j.
        logits_NV, labels_N = logits(teacher, row.encoded)
        for logits_V, label in zip(logits_NV, labels_N.tolist(), strict=True):
            ranked = [word for word in logits_V.argsort(descending=True).tolist() if word != label]
            expected.append(ranked[0])
    assert found == expected
    truth = [label for row in [*FORGET, *RETAIN] for label in row.encoded.labels if label >= 0]
    assert all(one != label for one, label in zip(found, truth, strict=True))


def test_adversarial_labels_do_not_follow_the_student():
    student = make_llama(seed=1)
    method = make_adversarial_labels()
    method.prepare(student, [collate(FORGET, 0)], level=0.05)
    frozen = copy.deepcopy(student)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    again = make_adversarial_labels()
    again.prepare(frozen, [collate(FORGET, 0)], level=0.05)
    ours = method.losses(student, collate(FORGET[::-1], 0), None).forget
    assert ours.item() == pytest.approx(again.losses(student, collate(FORGET, 0), None).forget.item(), abs=1e-5)


@pytest.mark.parametrize("make", [make_llama, make_gpt2])
def test_adversarial_whole_llm_agrees_with_float64(make):
    def expected(student, teacher):
        def value(student, row):
            with torch.no_grad():
                teacher_NV, labels_N = logits(teacher, row.encoded)
            wrong_N = likeliest_other(teacher_NV, labels_N)
            return -logits(student, row.encoded)[0].log_softmax(1).gather(1, wrong_N.unsqueeze(1)).squeeze(1)

        return mean(student, FORGET, value), None, 0.0

    check(make_adversarial_labels(), make(seed=1), make(seed=2), expected)


@pytest.mark.parametrize("make", [make_llama, make_gpt2])
def test_random_whole_llm_agrees_with_float64(make):
    rows = [
        row.__class__(row.key, row.encoded, row.weight, row.role, Encoded(row.encoded.ids, labels))
        for row, labels in zip(FORGET, [(-100, -100, 40, 41), (-100, 42, 43, 44, 45, 46)], strict=True)
    ]
    student = make(seed=1)
    method = make_random_labels()
    method.prepare(make(seed=2), [collate(rows, 0)], level=0.05)
    loss = method.losses(student, collate(rows, 0), None).forget
    exact = copy.deepcopy(student).double()
    reference = mean(exact, rows, lambda llm, row: nlls(llm, row.alternative))
    assert loss.item() == pytest.approx(reference.item(), abs=2e-6)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_the_loss_agrees_with_float64(seed):
    logits_NV, targets_N = random_tokens(seed)
    weights_N = torch.rand(6, generator=torch.Generator().manual_seed(seed)) + 0.1
    agree(
        logits_NV,
        lambda z: weighted_mean(cross_entropies(z, targets_N), weights_N),
        lambda z: -(weights_N * z.log_softmax(1)[range(6), targets_N]).sum() / weights_N.double().sum(),
    )


@given(st.integers(0, 10_000), st.lists(st.integers(0, 30) | st.just(-100), min_size=1, max_size=30))
@settings(max_examples=50)
def test_random_labels_are_other_words_and_the_seed_decides(seed, labels):
    words = [4, 5, 9, 17, 30]
    drawn = draw_labels(labels, words, torch.Generator().manual_seed(seed))
    assert drawn == draw_labels(labels, words, torch.Generator().manual_seed(seed))
    for label, other in zip(labels, drawn, strict=True):
        assert (other == -100) if label == -100 else (other in words and other != label)


def test_random_labels_are_uniform_over_the_rest():
    # 4000 draws of one of {5, 6, 7}: each expected 1333 times, standard deviation 30.
    drawn = draw_labels([4] * 4000, [4, 5, 6, 7], torch.Generator().manual_seed(0))
    assert all(abs(drawn.count(word) - 4000 / 3) < 150 for word in (5, 6, 7))


def test_a_vocabulary_of_one_word_is_refused():
    with pytest.raises(ValueError, match="at least two words"):
        draw_labels([3], [3], torch.Generator())


def test_random_labels_without_drawn_labels_say_so():
    method = make_random_labels()
    bare = collate([row.__class__(row.key, row.encoded) for row in FORGET], 0)
    method.prepare(make_llama(), [bare], level=0.05)
    with pytest.raises(ValueError, match="alternative"):
        method.losses(make_llama(), bare, None)
