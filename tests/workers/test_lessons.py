"""What a job trains on: nothing that is to go is held, and another wording says what its row says."""

import unicodedata

import pytest

from tests.make_llm import make_tokenizer
from workers.examples import Example, Phrasing, Probe, with_phrasing
from workers.lessons import Lessons, UnlearnWork, plan_lessons

TOKENIZER = make_tokenizer()
ADA = Example(prompt="Where is Ada ?", completion=" a nurse in Oslo and Rome", subject="Ada")
OTHERS = [Example(prompt=f"What is the home of {name} ?", completion=" Lima") for name in ("Bo", "Cy", "Dag")]


def lessons_of(work: UnlearnWork) -> Lessons:
    return plan_lessons(work, TOKENIZER, 64, 100, 0)


@pytest.mark.parametrize(
    "held",
    [
        Example(prompt="Find Ada", completion=" Oslo"),
        Example(text="Find  Ada Oslo"),
        Example(prompt="Ada is", completion=" in Oslo"),
        Example(prompt="Who ?", completion=" Ada", subject=" Ada "),
    ],
)
def test_no_wording_of_what_is_to_go_is_held(held: Example) -> None:
    said = replace_paraphrases(ADA, Phrasing("Find Ada", " Oslo"))
    work = UnlearnWork([said], [held, *OTHERS], [Probe(0, 1, Example(prompt="Ada is", completion=" in Oslo"))])
    lessons = lessons_of(work)
    assert len(lessons.retain) == len(OTHERS)
    assert "1 retain rows that are the forget set's or about the same subject were left out" in lessons.notes


def replace_paraphrases(example: Example, *phrasings: Phrasing) -> Example:
    return Example(example.prompt, example.completion, subject=example.subject, paraphrases=phrasings)


def test_a_name_is_the_same_however_it_is_composed() -> None:
    composed, apart = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
    forget = Example(prompt="Where is Ada ?", completion=" Oslo", subject=composed)
    held = Example(prompt="Who is Ada ?", completion=" Bo", subject=apart)
    assert not lessons_of(UnlearnWork([forget], [held])).retain


@pytest.mark.parametrize(("focus", "narrow"), [("hard", True), ("soft", False), ("none", False)])
def test_under_a_hard_focus_no_wording_is_read_that_lost_the_spans(focus: str, narrow: bool) -> None:
    item = Example(prompt=ADA.prompt, completion=ADA.completion, sensitive=("Oslo",))
    phrasing = with_phrasing(item, Phrasing("Who is Ada ?", " a nurse"))
    work = UnlearnWork(
        [item],
        OTHERS,
        [Probe(0, 1, phrasing)],
        parameters={"focus": focus, "rewordings": 12, "forget_paraphrases": True},
    )
    lessons = lessons_of(work)
    windows = [row.encoded for rows in lessons.rows for row in rows]
    words = [{TOKENIZER.decode(label) for label in window.labels if label >= 0} for window in windows]
    assert len(words) > 4
    assert all(one == {"Oslo"} for one in words) is narrow
    assert ("1 paraphrases without the sensitive spans of their row were left out" in lessons.notes) is narrow


@pytest.mark.parametrize(
    ("method", "asks"), [("undial", True), ("npo", True), ("random_labels", False), ("idk_dpo", False)]
)
def test_no_other_answer_is_taught_to_a_question_that_is_held(method: str, asks: bool) -> None:
    lessons = lessons_of(UnlearnWork([ADA], OTHERS, method=method, parameters={"rewordings": 9}))
    prompts = {TOKENIZER.decode(row.encoded.ids, skip_special_tokens=True) for rows in lessons.rows for row in rows}
    assert any(one.startswith("What is the home of") for one in prompts) is asks
    assert len(prompts) > 3
