"""UnDIAL's target `exchange`: places worked by hand, and the loss against the equation in float64."""

import pytest
import torch

from tests.make_llm import make_llama
from workers.batches import Encoded, Row, collate
from workers.evaluation.generation import Question, decode
from workers.methods.exchange import common_words, matches, places, turn
from workers.methods.undial import Undial

torch.set_num_threads(1)

QUESTION = (5, 6, 7)
ABOUT_ANOTHER = (5, 9, 7)


def test_matches_are_blocks_in_order():
    # "the 4 of June" in "the 12 of June": the, of, June at 0, 2, 3; 4 is nowhere.
    assert matches([1, 4, 2, 3], [1, 12, 2, 3]) == [0, None, 2, 3]
    assert matches([1, 2], []) == [None, None]


def test_a_word_is_common_if_more_than_half_have_it():
    assert common_words([[0, None], [None, 0], [0, None]]) == [True, False]
    assert common_words([[0], [None]]) == [False]  # half is not more than half


@pytest.mark.parametrize(
    ("found", "common", "end", "expected"),
    [
        # As long as each other: one by one.
        ([0, None, None, 3], [True, False, False, True], 4, [0, 1, 2, 3]),
        # The other's name is shorter: the third word's place is where the common word behind it stands.
        ([0, None, None, 2], [True, False, False, True], 3, [0, 1, 2, 2]),
        # It is longer: the common word stands where it was found, and the others go on from there.
        ([0, None, 4, None], [True, False, True, False], 6, [0, 1, 4, 5]),
        # A chance match is no place: three words, all of them others'.
        ([2, None, None], [False, False, False], 3, [0, 1, 2]),
        # Nothing answered at all: every word's place is the end.
        ([None, None], [False, False], 0, [0, 0]),
        # A common word that this answer lacks takes the next place.
        ([0, None, 1], [True, True, True], 2, [0, 1, 1]),
    ],
)
def test_places_by_hand(found, common, end, expected):
    assert places(found, common, end) == expected


@pytest.mark.parametrize(
    ("at", "word", "expected"),
    [
        (0, 5, 0),  # nobody has a 5 there: the first one's turn
        (0, 7, 2),  # the first two have a 7 there
        (1, 8, 1),  # the second one's turn, who has a 9
        (1, 9, 0),  # it has a 9, and so has the third: the first, who has an 8
        (2, 9, 2),  # nobody has a third word
    ],
)
def test_a_chance_match_passes_the_turn_on(at, word, expected):
    assert turn(at, word, [[7, 8], [7, 9], [1, 9]], [[0, 1, 2]] * 3) == expected


def test_if_all_have_the_word_it_is_asked_of_whose_turn_it_is():
    assert turn(1, 4, [[4], [4], [4]], [[0, 0]] * 3) == 1


def greedy(llm, question, tokens):
    (answer,) = decode(llm, [Question(question, tokens)], samples=0, stop_ids=[2], pad_id=0)
    return list(answer.greedy)


def made_row(teacher, key=0):
    """A row whose answer is what the teacher says of another, but for the second word."""
    said = greedy(teacher, ABOUT_ANOTHER, 12)[:4]
    assert len(said) == 4
    answer = [said[0], (said[1] + 1) % 60 + 3, *said[2:]]
    return Row(key, Encoded((*QUESTION, *answer), (-100, -100, -100, *answer)), others=(ABOUT_ANOTHER,) * 3), said


def expected_loss(student, teacher, row, said):
    """Its second word is learnt from what the teacher says after the other's first one, the rest from the row's own."""
    student, teacher = student.double(), teacher.double()
    own_TV = teacher(input_ids=torch.tensor([row.encoded.ids])).logits[0]
    others_TV = teacher(input_ids=torch.tensor([[*ABOUT_ANOTHER, *said]])).logits[0]
    logp_TV = student(input_ids=torch.tensor([row.encoded.ids])).logits[0].log_softmax(1)
    before = [2, 3, 4, 5]
    q = [others_TV[3] if at == 3 else own_TV[at] for at in before]
    return sum(-(one.softmax(0) * logp_TV[at]).sum() for one, at in zip(q, before, strict=True)) / 4


def test_common_words_stay_and_the_others_come_from_others():
    student, teacher = make_llama(seed=1), make_llama(seed=2, spread=0.5)
    row, said = made_row(teacher)
    method = Undial(target="exchange")
    method.prepare(teacher, [collate([row], 0)], level=0.1)
    loss = method.losses(student, collate([row], 0), None).forget
    assert loss.item() == pytest.approx(expected_loss(student, teacher, row, said).item(), abs=1e-5)


def test_rows_about_nobody_else_are_cut_as_the_paper_says_and_both_share_the_mean():
    student, teacher = make_llama(seed=1), make_llama(seed=2, spread=0.5)
    row, _ = made_row(teacher)
    lone = Row(1, Encoded((9, 10, 11), (-100, 10, 11)))
    both, alone, paper = Undial(target="exchange"), Undial(target="exchange"), Undial()
    both.prepare(teacher, [collate([row, lone], 0)], level=0.1)
    alone.prepare(teacher, [collate([row], 0)], level=0.1)
    paper.prepare(teacher, [collate([lone], 0)], level=0.1)
    parts = [alone.losses(student, collate([row], 0), None), paper.losses(student, collate([lone], 0), None)]
    # Four labels of the one and two of the other.
    expected = (4 * parts[0].forget.item() + 2 * parts[1].forget.item()) / 6
    loss = both.losses(student, collate([row, lone], 0), None).forget
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_each_word_asks_about_the_next_other():
    student, teacher = make_llama(seed=1), make_llama(seed=2, spread=0.5)
    questions = [(5, 9, 7), (5, 20, 7)]
    said = [greedy(teacher, one, 10) for one in questions]
    fresh = [word for word in range(3, 64) if not any(word in answer for answer in said)][:2]
    row = Row(0, Encoded((*QUESTION, *fresh), (-100, -100, -100, *fresh)), others=tuple(questions))
    method = Undial(target="exchange")
    method.prepare(teacher, [collate([row], 0)], level=0.1)
    loss = method.losses(student, collate([row], 0), None).forget
    logp_TV = student(input_ids=torch.tensor([row.encoded.ids])).logits[0].log_softmax(1)
    first = teacher(input_ids=torch.tensor([questions[0]])).logits[0, 2]
    second = teacher(input_ids=torch.tensor([[*questions[1], said[1][0]]])).logits[0, 3]
    expected = sum(-(q.softmax(0) * logp_TV[at]).sum() for q, at in ((first, 2), (second, 3))) / 2
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
