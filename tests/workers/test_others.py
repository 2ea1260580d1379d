"""Whom a question is asked about instead, and that a job which asks so forgets."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from records.params import UndialParameters, escalate
from tests.make_llm import make_gpt2, make_tokenizer
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from workers.evaluation.scoring import score
from workers.examples import Example, encode
from workers.lessons import UnlearnWork, plan_lessons
from workers.loop import unlearn
from workers.others import NOBODY, OTHERS, nobody, others_asked

FORGET = people(TRAINED[:1])
RETAIN = both_phrasings(people(TRAINED[1:]))


def ignore(progress):
    return None


@pytest.mark.parametrize(
    ("prompt", "subject", "left"),
    [
        ("Where does Ann live?", "Ann", f"Where does {NOBODY} live?"),
        ("Ann and Anna", "Ann", f"{NOBODY} and Anna"),
        ("Annabel lives", "Ann", f"{NOBODY}abel lives"),  # in no word of its own: wherever it stands
        ("Who wrote it?", "Ann", None),
        ("Ann", None, None),
    ],
)
def test_the_name_is_taken_out(prompt, subject, left):
    assert nobody(Example(prompt=prompt, completion=" x", subject=subject)) == left


def test_a_text_has_no_question():
    assert nobody(Example(text="Ann lives in Oslo", subject="Ann")) is None


def test_the_same_question_about_others():
    tokenizer = make_tokenizer()
    found = others_asked(FORGET, RETAIN, tokenizer, seed=0, context_tokens=64)(FORGET[0], 3)
    asked = [tokenizer.decode(ids, skip_special_tokens=True) for ids in found]
    possible = {f"Where does {name} live ?" for name in TRAINED[1:]}
    assert len(set(asked)) == OTHERS
    assert set(asked) <= possible


def test_whoever_is_to_be_forgotten_is_no_other():
    tokenizer, items = make_tokenizer(), people(TRAINED[:5])
    found = others_asked(items, both_phrasings(people(TRAINED)), tokenizer, seed=0, context_tokens=64)(items[0], 3)
    words = {word for ids in found for word in tokenizer.convert_ids_to_tokens(ids)}
    assert not words & set(TRAINED[:5])
    assert len(found) == 4


def test_those_who_are_asked_the_same_come_first():
    tokenizer = make_tokenizer()
    lands = [Example(prompt=f"the home of {name}", completion=" x", subject=name) for name in NEVER_TRAINED]
    found = others_asked(FORGET, [*lands, *people(TRAINED[1:4])], tokenizer, seed=0, context_tokens=64)(FORGET[0], 3)
    words = {word for ids in found for word in tokenizer.convert_ids_to_tokens(ids)}
    assert not words & set(NEVER_TRAINED)
    assert len(found) == 3


def test_the_draw_stays_when_another_leaves():
    tokenizer = make_tokenizer()
    all_of_them = others_asked(FORGET, RETAIN, tokenizer, seed=0, context_tokens=64)(FORGET[0], 3)
    for name in TRAINED[1:]:
        fewer = [one for one in RETAIN if one.subject != name]
        left = others_asked(FORGET, fewer, tokenizer, seed=0, context_tokens=64)(FORGET[0], 3)
        gone = [ids for ids in all_of_them if name in tokenizer.convert_ids_to_tokens(ids)]
        assert set(all_of_them) - set(left) == set(gone)


def test_too_few_others_are_nobody():
    ask = others_asked(FORGET, people(TRAINED[1:3]), make_tokenizer(), seed=0, context_tokens=64)
    assert ask(FORGET[0], 3) == ()


def test_others_whose_answer_would_not_fit_are_left_out():
    # Six tokens ask; an answer of 3 may be 8 longer. A name of three words leaves no room for it.
    long = Example(prompt="Where does Ada Bo Cy live ?", completion=" x", subject="Ada Bo Cy")
    ask = others_asked(FORGET, [*people(TRAINED[1:4]), long], make_tokenizer(), seed=0, context_tokens=17)
    assert [len(ids) for ids in ask(FORGET[0], 3)] == [6, 6, 6]
    assert ask(FORGET[0], 4) == ()  # fewer than three are nobody
    roomy = others_asked(FORGET, [*people(TRAINED[1:4]), long], make_tokenizer(), seed=0, context_tokens=19)
    assert sorted(len(ids) for ids in roomy(FORGET[0], 3)) == [6, 6, 6, 8]


def test_a_job_near_the_end_of_the_context_goes_on():
    # GPT-2 has a table of positions, and no row after its last.
    llm, tokenizer = make_gpt2(), make_tokenizer()
    longer = [replace(one, prompt=one.prompt + " the" * 50) for one in people(TRAINED[:6])]
    parameters = {"target": "exchange", "rewordings": 0, "max_steps": 1}
    work = UnlearnWork(longer[:2], longer[2:], control_level=1e-6, parameters=parameters)
    summary = unlearn(llm, tokenizer, work, ignore)
    assert summary.steps == 1
    assert any("of 2 wordings" in note and "2 could be asked about nobody else" in note for note in summary.notes)


def test_a_plan_says_how_many_rows_are_about_nobody_else():
    lone = Example(prompt="Who is it ?", completion=" Oslo", subject="Ada")
    work = UnlearnWork(forget=[*FORGET, lone], retain=RETAIN, parameters={"target": "exchange", "rewordings": 0})
    lessons = plan_lessons(work, memorised()[1], 64, 8, 0)
    assert [len(row.others) for rows in lessons.rows for row in rows] == [OTHERS, OTHERS, 0]
    (note,) = [one for one in lessons.notes if "nobody else" in one]
    assert note.startswith("of 3 wordings of the forget examples, those made of their own words among them, 1 could be")
    assert not any(name in note for name in TRAINED)


def test_no_other_is_asked_about_for_another_target():
    lessons = plan_lessons(UnlearnWork(forget=FORGET, parameters={"target": "gamma"}), memorised()[1], 64, 8, 0)
    assert not any(row.others for rows in lessons.rows for row in rows)


def test_a_job_forgets_and_keeps_the_others():
    llm, tokenizer = memorised()
    parameters = {"target": "exchange", "learning_rate": 2e-3, "epochs": 60, "stop_ratio": 2.0}
    summary = unlearn(llm, tokenizer, UnlearnWork(FORGET, RETAIN, control_level=0.1, parameters=parameters), ignore)
    assert summary.known_items == 0
    gone, kept = (score(llm, [encode(one, tokenizer, 64) for one in some], 0) for some in (FORGET, people(TRAINED[1:])))
    assert not any(one.exact for one in gone)
    assert sum(one.exact for one in kept) >= 0.9 * len(kept)
    # "and" and "in" are in everybody's answer: a never-trained LLM says them, and so does this one.
    assert all(one.token_accuracy > 0.0 for one in gone)


def test_a_focus_is_refused():
    with pytest.raises(ValidationError, match="set focus to none, or target to gamma"):
        UndialParameters(target="exchange", focus="hard")


def test_a_stronger_attempt_keeps_the_target():
    second = escalate(UndialParameters(target="exchange", stop_ratio=2.0), 2)
    assert (second.parameters.target, second.parameters.model_dump()["stop_ratio"]) == ("exchange", 1.05)
    assert "others' answers" in second.why
