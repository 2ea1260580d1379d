"""Text of the LLM's own as retain rows: by the seed, bounded, nothing of the forget set, and said in the report."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from records.evidence import gram_hashes, kept_of
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from workers.evaluation.generation import Answers
from workers.evaluation.scoring import score
from workers.examples import Example, encode
from workers.loop import UnlearnWork, unlearn
from workers.self_sampled import (
    MOST_TEXTS,
    SHARED_WORDS,
    TEXT_TOKENS,
    _runs,
    own_texts,
    shows,
)
from workers.words import LETTERS_A_WORD, letters_of

torch.set_num_threads(1)

FORGET = people(TRAINED[:1])
OTHERS = people(TRAINED[1:])


def test_the_seed_decides_and_the_count_is_bounded():
    llm, tokenizer = memorised()
    first, again, other = (own_texts(llm, tokenizer, FORGET, 10_000, 64, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert 0 < len(first.examples) + first.clashing <= MOST_TEXTS
    assert all(len(tokenizer(one.text)["input_ids"]) <= TEXT_TOKENS + 1 for one in first.examples)
    assert len(own_texts(llm, tokenizer, FORGET, 5, 64, 0).examples) <= 8


def test_nothing_of_the_forget_set_is_kept():
    llm, tokenizer = memorised()
    everything = own_texts(llm, tokenizer, FORGET, MOST_TEXTS, 64, 0)
    told = (everything.examples[0].text or "").split()[-1]
    own = own_texts(llm, tokenizer, [*FORGET, Example("Where ?", f" {told}")], MOST_TEXTS, 64, 0)
    assert own.clashing > everything.clashing
    assert not any(told in (one.text or "").split() for one in own.examples)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("then Ada came", True),
        ("he lives in Oslo", True),
        ("born 1 May", True),
        ("where on earth does this woman live now", True),
        ("Adam is in Rome", False),
    ],
)
def test_what_shows_an_example(text, shown):
    example = Example("Where on earth does this woman live ?", " in Oslo", subject="Ada", sensitive=("1 May",))
    assert shows(text, example) is shown


WITHOUT_SPACES = [
    ("张伟住在上海市浦东新区", "张伟住在上海市浦东新路"),
    ("李娜，1990年生，职业是医生", "李娜1990年生职业是教师"),  # punctuation is no character of its own
    ("田中さんは京都の大学で日本の歴史を教えています", "田中さんは京都の大学で日本の文学を読む"),
    ("สมชายเกิดที่เมืองเชียงใหม่ในปีที่แล้ว", "สมชายเกิดที่เมืองเชียงใหม่หลังสงคราม"),
    ("ລາວອາໄສຢູ່ນະຄອນຫຼວງວຽງຈັນມາດົນແລ້ວ", "ລາວອາໄສຢູ່ນະຄອນຫຼວງວຽງຈັນກັບແມ່"),
    ("គាត់រស់នៅទីក្រុងភ្នំពេញជាមួយម្តាយ", "គាត់រស់នៅទីក្រុងភ្នំពេញតែម្នាក់"),
    ("သူသည်ရန်ကုန်မြို့တွင်နေထိုင်သည်", "သူသည်ရန်ကုန်မြို့တွင်အလုပ်လုပ်"),
]


@pytest.mark.parametrize(("whole", "text"), WITHOUT_SPACES)
def test_what_shows_an_example_of_a_script_without_spaces(whole, text):
    assert shows(text, Example(text=whole))
    assert shows(text, Example(whole[:3], whole[3:]))


@pytest.mark.parametrize(
    ("whole", "text"),
    [
        ("张伟住在上海市浦东新区", "王芳住在上海市中心"),  # five characters
        ("สมชายเกิดที่กรุงเทพ", "ร้านอาหารในกรุงเทพ"),  # a city of seven letters is no six words
        ("彼はコンピュータを買った", "新しいコンピュータが届いた"),
    ],
)
def test_a_word_that_many_texts_have_shows_nothing(whole, text):
    assert not shows(text, Example(text=whole))


@given(texts=st.lists(st.lists(st.sampled_from(["Ada", "lives", "in", "Oslo.", "москва", "서울에", "राम", "é", ","]))))
def test_words_with_spaces_are_counted_as_they_stand(texts):
    for words in texts:
        lower = [word.lower() for word in words]
        expected = {tuple(lower[at : at + SHARED_WORDS]) for at in range(len(lower) - SHARED_WORDS + 1)}
        assert _runs("  ".join(words)) == expected
        assert (letters_of(lower) > LETTERS_A_WORD) is (len(words) > 1)


def test_texts_without_spaces_are_kept_to_hold_the_llm(monkeypatch):
    llm, tokenizer = memorised()
    written = ["张伟住在上海市浦东新路", "王芳喜欢散步", "他", "ร้านอาหาร", "さ", ""]
    sampled = tuple((at,) for at in range(len(written)))
    monkeypatch.setattr("workers.self_sampled.decode", lambda *_, **__: [Answers((), sampled)])
    monkeypatch.setattr(type(tokenizer), "decode", lambda _, line, **__: written[line[0]])
    own = own_texts(llm, tokenizer, [Example("张伟住在", "上海市浦东新区")], 8, 64, 0)
    assert [one.text for one in own.examples] == ["王芳喜欢散步", "ร้านอาหาร"]
    assert own.clashing == 1


def run(parameters, retain):
    llm, tokenizer = memorised()
    never = score(llm, [encode(one, tokenizer, 64) for one in people(NEVER_TRAINED)], 0)
    level = sum(one.token_probability for one in never) / len(never)
    fast = {"learning_rate": 1e-3, "target": "floor", "epochs": 40, "stop_ratio": 10.0}
    work = UnlearnWork(forget=FORGET, retain=retain, control_level=level, parameters=fast | parameters)
    summary = unlearn(llm, tokenizer, work, lambda _: None)
    kept = score(llm, [encode(one, tokenizer, 64) for one in OTHERS], 0)
    return summary, sum(one.token_probability for one in kept) / len(kept)


def test_nobody_who_asked_besides_is_held_as_a_text_of_the_llms_own():
    def told(**of_others):
        llm, tokenizer = memorised()
        brief = {"retain_source": "sampled", "max_steps": 1, "stop_level": "mean"}
        return unlearn(
            llm, tokenizer, UnlearnWork(forget=FORGET, control_level=0.1, parameters=brief, **of_others), lambda _: None
        )

    hashed = kept_of({"req_1": gram_hashes([one.completion or "" for one in OTHERS], b"key", 7)})
    alone, beside, beside_hashed = told(), told(unspoken=OTHERS), told(kept=hashed)
    assert 0 < beside.retain_rows < alone.retain_rows
    assert beside_hashed.retain_rows < alone.retain_rows


def test_without_retain_rows_the_llms_own_text_holds_the_others_better_than_nothing():
    sampled, held = run({}, [])
    nothing, lost = run({"retain_kind": "none"}, [])
    assert any("sampled from the LLM itself" in note for note in sampled.notes)
    assert not any("sampled" in note for note in nothing.notes)
    assert (sampled.known_items, nothing.known_items) == (0, 0)
    assert held > lost


def test_asked_for_it_takes_the_place_of_the_dataset():
    rows = both_phrasings(OTHERS)
    given, _ = run({"max_steps": 1}, rows)
    sampled, _ = run({"max_steps": 1, "retain_source": "sampled"}, rows)
    assert any("sampled from the LLM itself" in note for note in sampled.notes)
    assert not any("sampled" in note for note in given.notes)
