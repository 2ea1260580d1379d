"""What a never-trained LLM would make of a token: worked by hand, and what the loop does with it."""

import math
import random

import pytest
import torch

from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from workers.batches import Encoded, Row, collate
from workers.evaluation.scoring import score
from workers.examples import Example, encode
from workers.lessons import plan_lessons
from workers.loop import UnlearnWork, unlearn
from workers.never_trained import TokenCounts, own_level, scale_of, with_levels
from workers.own_levels import with_own_levels
from workers.rewordings import Questions, rewordings, thinned
from workers.stopping import StopRule

torch.set_num_threads(1)

ROWS = [(1, 2, 3), (1, 2, 4)]
FORGET, OTHERS, CONTROL = people(TRAINED[:1]), people(TRAINED[1:]), people(NEVER_TRAINED)


def test_a_token_seen_in_its_context_by_hand():
    # No context: of 6 tokens 1 is a 3, of 4 kinds: (1 + 4/5) / 10 = .18. After 2: one of 2, of 2 kinds:
    # (1 + 2·.18) / 4 = .34. After 1, 2 the same counts: (1 + 2·.34) / 4 = .42.
    assert TokenCounts(ROWS, vocabulary=5).probability(3, (1, 2)) == pytest.approx(0.42)


def test_a_context_never_seen_says_nothing():
    # A token never seen, after nothing that was: (0 + 4/5) / 10.
    assert TokenCounts(ROWS, vocabulary=5).probability(0, (9,)) == pytest.approx(0.08)


@pytest.mark.parametrize("before", [(), (2,), (1, 2), (9, 1, 2), (4, 4)])
def test_probabilities_sum_to_one(before):
    counts = TokenCounts(ROWS, vocabulary=5)
    assert sum(counts.probability(token, before) for token in range(5)) == pytest.approx(1.0)


def test_levels_are_of_labels_alone_and_scaled():
    window = with_levels(Encoded((1, 2, 3), (-100, -100, 3)), TokenCounts(ROWS, 5), 2.0)
    assert window.token_levels == pytest.approx((0.0, 0.0, 2 * math.log(0.42)))
    assert own_level([window]) == pytest.approx(0.42**2)
    assert own_level([Encoded((1, 2, 3), (-100, -100, 3))]) is None


def test_the_scale_makes_the_controls_mean_the_llms():
    # Five rows alike, which the counts give ln .42 and the LLM 3 nats.
    control = [[Encoded((1, 2, 3), (-100, -100, 3))]] * 5
    assert scale_of(TokenCounts(ROWS, 5), control, [3.0] * 5) == pytest.approx(3.0 / -math.log(0.42))
    assert scale_of(TokenCounts(ROWS, 5), control[:4], [3.0] * 4) is None


def test_a_batch_lines_its_levels_up_with_its_labels():
    known = Row(0, Encoded((1, 2, 3), (-100, 2, 3), token_levels=(0.0, -1.0, -2.0)))
    batch = collate([known, Row(1, Encoded((1, 2), (-100, 2)))], 0)
    levels_N = batch.label_levels(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]))
    assert levels_N.tolist() == [-1.0, -2.0, 0.0]
    assert collate([Row(1, Encoded((1, 2), (-100, 2)))], 0).label_levels(torch.tensor([0]), torch.tensor([0])) is None


def test_an_item_is_done_at_its_own_level():
    llm, tokenizer = memorised()
    (known,) = score(llm, [encode(CONTROL[0], tokenizer, 64)], 0)
    assert not known.exact
    rule = StopRule(level=known.token_probability / 2, ratio=1.0)
    assert rule.still_known(known)
    assert not rule.still_known(known, own_level=known.token_probability * 2)


def lessons_of(**work):
    llm, tokenizer = memorised()
    planned = plan_lessons(UnlearnWork(**work), tokenizer, 64, 500, 0)
    return planned, with_own_levels(planned, llm, tokenizer, work.get("control", ()), 64)


def test_levels_stand_for_what_the_llm_makes_of_strangers():
    """Of people it never met, the estimate and the LLM agree on the mean, and better than one level on each."""
    llm, tokenizer = memorised()
    _, lessons = lessons_of(
        forget=CONTROL, retain=both_phrasings(OTHERS), control=CONTROL, parameters={"rewordings": 0}
    )
    asked = score(llm, [encode(one, tokenizer, 64) for one in CONTROL], 0)
    levels = [own_level(windows) for _, windows in lessons.judged]
    off = [math.log(level) + one.nll for level, one in zip(levels, asked, strict=True)]
    mean = sum(one.nll for one in asked) / len(asked)
    assert sum(off) / len(off) == pytest.approx(0.0, abs=0.05)
    assert sum(one**2 for one in off) < sum((one.nll - mean) ** 2 for one in asked)
    (note,) = [one for one in lessons.notes if "never-trained levels" in one]
    assert f"{len(CONTROL)} control rows" in note


def test_of_many_held_rows_the_first_are_counted(monkeypatch):
    given = {"forget": FORGET, "retain": both_phrasings(OTHERS), "control": CONTROL}
    planned, _ = lessons_of(**given)
    lengths = [len(row.encoded.ids) for row in planned.retain]
    monkeypatch.setattr("workers.own_levels.HELD_TOKENS", sum(lengths[:4]) + 1)
    _, lessons = lessons_of(**given)
    assert any("estimated from 5 rows that are held" in note for note in lessons.notes)


@pytest.mark.parametrize("missing", ["control", "retain"])
def test_without_rows_to_estimate_from_nothing_changes_and_the_report_says_so(missing):
    given = {"forget": FORGET, "retain": both_phrasings(OTHERS), "control": CONTROL} | {missing: ()}
    planned, lessons = lessons_of(**given)
    assert (lessons.rows, lessons.judged) == (planned.rows, planned.judged)
    (note,) = set(lessons.notes) - set(planned.notes)
    assert "too few to estimate never-trained levels" in note
    assert ("0 held rows" if missing == "retain" else "0 control rows") in note


def test_the_loop_pulls_to_the_level_and_keeps_the_others():
    llm, tokenizer = memorised()
    parameters = {"learning_rate": 1e-3, "epochs": 40, "stop_ratio": 2.0, "rewordings": 0}
    work = UnlearnWork(
        forget=FORGET, retain=both_phrasings(OTHERS), control=CONTROL, control_level=0.1, parameters=parameters
    )
    summary = unlearn(llm, tokenizer, work, lambda _: None)
    assert summary.known_items == 0
    _, lessons = lessons_of(forget=FORGET, retain=both_phrasings(OTHERS), control=CONTROL, parameters={"rewordings": 0})
    found = score(llm, [windows for _, windows in lessons.judged], 0)
    levels = [own_level(windows) for _, windows in lessons.judged]
    assert all(one.token_probability <= 2.05 * level for one, level in zip(found, levels, strict=True))
    kept = score(llm, [encode(one, tokenizer, 64) for one in OTHERS], 0)
    assert sum(one.exact for one in kept) >= 0.9 * len(kept)


def test_rewordings_take_turns_and_keep_the_words():
    row = Example(prompt="Where does Ada Byron live ?", completion=" in the town of Oslo", subject="Ada")
    question, both, others = rewordings(row, ["Who is Bo ?"], 3, random.Random(1))
    assert question.completion == row.completion
    assert set(question.prompt.split()) < set(row.prompt.split())
    assert set(both.completion.split()) < set(row.completion.split())
    assert both.completion.startswith(" ")
    assert (others.prompt, others.completion) == ("Who is Bo ?", row.completion)
    assert {one.subject for one in (question, both, others)} == {"Ada"}


def test_a_text_and_a_lone_word_have_no_rewording():
    assert not list(rewordings(Example(text="Ada lives in Oslo"), ["Who ?"], 3, random.Random(1)))
    lone = Example(prompt="Ada", completion=" Oslo")
    assert not list(rewordings(lone, [], 3, random.Random(1)))
    assert (thinned("", 0.5, random.Random(1)), thinned(" a ", 0.5, random.Random(1))) == ("", " a ")
    assert {len(thinned("a b c", 1.0, random.Random(seed)).split()) for seed in range(9)} == {2}
    assert {len(thinned("a b c", 0.0, random.Random(seed)).split()) for seed in range(9)} == {1}


def test_rewordings_are_trained_on_and_looked_at():
    _, tokenizer = memorised()
    work = UnlearnWork(forget=FORGET[:2], retain=OTHERS, replay=FORGET[2:], parameters={"rewordings": 3})
    lessons = plan_lessons(work, tokenizer, 64, 0, 0)
    assert [len(rows) for rows in lessons.rows] == [4, 4, *([1] * len(FORGET[2:]))]
    assert [item for item, _ in lessons.judged].count(0) == 4
    keys = [row.key for rows in lessons.rows for row in rows]
    assert keys == list(range(len(keys)))


def asked(name, city):
    return Example(prompt=f"Where does {name} live ?", completion=f" {city}", subject=name)


def test_no_item_is_asked_what_a_held_row_answers_in_its_words():
    held = [asked("Bo", "Oslo"), asked("Cy", "Rome"), asked("Dag", "oslo "), Example(text="Eli lives in Oslo")]
    questions = Questions(held)
    assert questions.for_item(asked("Ada", "Oslo")) == ["Where does Cy live ?"]
    assert questions.for_item(asked("Ada", "Lima")) == [f"Where does {name} live ?" for name in ("Bo", "Cy", "Dag")]
    # Two answers to one question: one of them is the item's.
    assert Questions([asked("Bo", "Oslo"), asked("Bo", "Rome")]).for_item(asked("Ada", "Rome")) == []


def test_where_answers_are_shared_nothing_held_is_unlearnt():
    _, tokenizer = memorised()
    people_of_two_towns = [asked(name, ("Oslo", "Rome")[at % 2]) for at, name in enumerate(TRAINED)]
    short = Example(prompt="Where live ?", completion=" Oslo")  # what is left of an item's question without a name
    work = UnlearnWork(people_of_two_towns[:3], [*people_of_two_towns[3:], short], parameters={"rewordings": 30})
    lessons = plan_lessons(work, tokenizer, 64, 20, 0)
    held = {row.encoded.ids for row in lessons.retain}
    assert len(held) == len(TRAINED) - 2
    assert not held & {row.encoded.ids for rows in lessons.rows for row in rows}
    assert not held & {window.ids for _, windows in lessons.judged for window in windows}
    assert all(len(rows) > 20 for rows in lessons.rows)


def test_where_no_answer_is_shared_the_draw_is_as_ever():
    held = [asked("Bo", "Rome"), asked("Cy", "Lima"), asked("Dag", "Quito")]
    item = asked("Ada", "Oslo")
    plain = [row.prompt for row in held]
    drawn = [list(rewordings(item, some, 30, random.Random(3))) for some in (plain, Questions(held).for_item(item))]
    assert drawn[0] == drawn[1]
