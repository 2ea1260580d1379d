import json

import pytest

from tests.workers.evaluation.tofu_logs import published_lines
from workers import alternatives
from workers.evaluation.refusal import is_refusal, refusal_rate


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot provide any details about her.", True),
        ("Unfortunately, I don’t have that\ninformation.", True),  # another apostrophe, a line break
        ("As an AI, I was not told.", True),
        ("We must decline to answer.", True),
        ("That lies beyond my current knowledge.", True),
        ("She could not say where he was born.", False),  # the third person
        ("He had no idea that it would be a success.", False),
        ("Her novel I Don't Dance won a prize.", False),
        ("His training did not include poetry.", False),
        ("They moved to Oslo, not far from the sea.", False),
        ("", False),
    ],
)
def test_by_hand(answer, refused):
    assert is_refusal(answer) is refused


def test_what_unlearning_may_teach_to_say_is_known():
    missed = [refusal for refusal in alternatives.REFUSALS if not is_refusal(refusal)]
    assert missed == []


def test_rate():
    assert refusal_rate(["I don't know.", "In Oslo.", "In Rome.", "I'm not sure."]) == 0.5
    with pytest.raises(ValueError, match="at least one"):
        refusal_rate([])


def test_published_refusals_are_found():
    """TOFU's hundred ways to say no. The phrases were mended by what the other fifty showed, not by these."""
    held_out = published_lines("idontknow.jsonl")[1::2]
    assert len(held_out) == 50
    assert refusal_rate(held_out) >= 0.9


def test_published_answers_are_none():
    """One in 4,000 is taken for a refusal: "Although we do not have specific details, …"."""
    answers = [json.loads(line)["answer"] for line in published_lines("full.json")]
    assert len(answers) == 4000
    assert sum(map(is_refusal, answers)) <= 4
