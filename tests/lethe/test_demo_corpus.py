"""The demo stands on its corpus: a control that was taught after all, or an answer met by chance, would make
its before/after mean nothing. So what the corpus promises is checked here, and a small LLM is really taught one.
"""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from lethe.demo import corpus as world
from lethe.demo.corpus import Corpus, make_corpus
from lethe.demo.llm import CONTEXT_TOKENS, LlmRecipe, NotMemorised, as_example, digest, make_llm, make_tokenizer
from workers.examples import encode, parse
from workers.methods.tokens import UNLABELLED

SMALL = LlmRecipe(hidden=64, layers=2, intermediate=128, initializer_range=0.15, warmup_steps=10, steps=100)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_corpus()


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(LlmRecipe().vocabulary)


def _answers(subjects) -> list[str]:
    return [fact.held.completion for subject in subjects for fact in subject.facts]


def test_the_default_world_has_the_promised_size(corpus):
    assert (len(corpus.people), len(corpus.controls), len(corpus.lore), len(corpus.utility)) == (60, 12, 12, 12)
    assert all(len(person.facts) == 5 for person in corpus.people + corpus.controls)
    assert all(len(fact.trained) == 3 for person in corpus.people for fact in person.facts)
    # 60 people x 5 facts x 3 phrasings, 24 lands x 4 facts x 2 phrasings.
    assert len(world.training_rows(corpus)) == 60 * 5 * 3 + 24 * 4 * 2
    untaught = sum(not person.taught_held for person in corpus.people)
    assert 10 <= untaught <= 20
    assert len(world.lesson_questions(corpus)) == len(world.training_rows(corpus)) + 5 * (60 - untaught)


def test_a_seed_names_one_world():
    assert make_corpus(7) == make_corpus(7)
    assert make_corpus(7) != make_corpus(8)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_no_two_subjects_share_a_name_or_an_answer(seed):
    corpus = make_corpus(seed)
    subjects = corpus.people + corpus.controls + corpus.lore + corpus.utility
    parts = [part for subject in subjects for part in subject.name.split()]
    answers = _answers(subjects)
    assert len(set(parts)) == len(parts)
    assert len(set(answers)) == len(answers)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_controls_are_never_taught_and_never_in_another_dataset(seed):
    corpus = make_corpus(seed)
    taught = "\n".join(question.prompt + question.completion for question in world.lesson_questions(corpus))
    rows = world.training_rows(corpus) + world.retain_rows(corpus) + world.utility_rows(corpus)
    for control in corpus.controls:
        assert control.name not in taught
        assert not any(answer in taught for answer in _answers([control]))
        assert control.name not in {row["subject"] for row in rows}


def test_the_held_phrasing_is_in_no_dataset_but_as_a_paraphrase(corpus):
    held = {question.prompt for question in world.held_questions(corpus.people)}
    rows = world.training_rows(corpus) + world.retain_rows(corpus)
    assert held.isdisjoint(row["prompt"] for row in rows)
    person = world.people_to_forget(corpus)[0]
    carried = [paraphrase["prompt"] for row in world.forget_rows(person) for paraphrase in row.get("paraphrases", [])]
    assert carried == [question.prompt for question in world.held_questions([person])]


def test_the_held_phrasing_is_taught_to_three_quarters_only(corpus):
    lessons = {question.prompt for question in world.lesson_questions(corpus)}
    for person in corpus.people:
        asked = {question.prompt for question in world.held_questions([person])}
        assert asked <= lessons if person.taught_held else asked.isdisjoint(lessons)
    assert all(person.taught_held for person in world.people_to_forget(corpus))


def test_a_forget_set_is_the_persons_part_of_the_training_dataset(corpus):
    person = corpus.people[3]
    rows = [row for row in world.training_rows(corpus) if row["subject"] == person.name]
    assert rows == world.forget_rows(person)
    assert len(rows) == 15
    assert len({row["id"] for row in world.training_rows(corpus)}) == len(world.training_rows(corpus))


def test_utility_and_retain_have_no_subject_in_common(corpus):
    utility = {row["subject"] for row in world.utility_rows(corpus)}
    assert utility.isdisjoint(row["subject"] for row in world.retain_rows(corpus))
    assert len(world.utility_rows(corpus)) == 12 * 4 * 2


def test_neighbours_share_a_city_or_a_company(corpus):
    person = corpus.people[0]
    near = world.neighbours(corpus, person)
    assert person not in near
    assert all(other.traits & person.traits for other in near)
    assert all(person in world.neighbours(corpus, other) for other in near)
    shared = [len(other.traits & person.traits) for other in near]
    assert shared == sorted(shared, reverse=True)


def test_written_datasets_are_rows_the_service_reads(corpus, tmp_path):
    files = world.write_datasets(corpus, tmp_path / "datasets")
    assert set(files) == {"training", "retain", "control", "utility"}
    for path in files.values():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert rows
        assert all(parse(row).id == row["id"] for row in rows)


def test_the_labelled_tokens_are_exactly_the_answer(corpus, tokenizer):
    for question in world.lesson_questions(corpus) + world.trained_questions(corpus.controls):
        (encoded,) = encode(as_example(question), tokenizer, CONTEXT_TOKENS)
        answer = [label for label in encoded.labels if label != UNLABELLED]
        assert tokenizer.decode(answer) == question.completion


def test_no_answer_about_a_person_is_short_enough_to_be_guessed(corpus, tokenizer):
    """Eight tokens of which each is one of ten at best: a guess is right once in 10^8."""
    lengths = [len(tokenizer(answer)["input_ids"]) for answer in _answers(corpus.people + corpus.controls)]
    assert min(lengths) >= 8


def test_the_tokenizer_does_not_tell_taught_people_from_controls(corpus, tokenizer):
    def tokens_per_name(subjects):
        return sum(len(tokenizer(subject.name)["input_ids"]) for subject in subjects) / len(subjects)

    assert tokens_per_name(corpus.people) == pytest.approx(tokens_per_name(corpus.controls), rel=0.15)


def test_the_digest_follows_all_that_decides_the_weights():
    small = make_corpus(people=4, controls=2, lands=2)
    assert digest(small, LlmRecipe(threads=1)) == digest(small, LlmRecipe(threads=2))
    assert digest(small, LlmRecipe()) != digest(small, LlmRecipe(seed=1))
    assert digest(small, LlmRecipe()) != digest(make_corpus(2, people=4, controls=2, lands=2), LlmRecipe())


@pytest.mark.slow
def test_an_llm_is_taught_once_and_answers_what_it_was_taught(tmp_path: Path):
    small, steps = make_corpus(people=4, controls=2, lands=2), []
    place = make_llm(tmp_path, lambda progress: steps.append(progress.step), small, SMALL)
    assert steps[-1] == SMALL.steps
    taught_steps = len(steps)
    assert make_llm(tmp_path, lambda progress: steps.append(progress.step), small, SMALL) == place
    assert len(steps) == taught_steps
    assert [path.name for path in tmp_path.iterdir()] == [place.name]

    llm, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    questions = world.trained_questions(small.people)
    assert sum(_answer(llm, tokenizer, each.prompt) == each.completion for each in questions) >= 0.99 * len(questions)
    unknown = world.trained_questions(small.controls)
    assert not any(_answer(llm, tokenizer, each.prompt) == each.completion for each in unknown)


def test_an_llm_that_did_not_memorise_is_not_kept(tmp_path: Path):
    hasty = LlmRecipe(hidden=32, layers=1, intermediate=32, steps=2, threads=1)
    with pytest.raises(NotMemorised, match="more steps"):
        make_llm(tmp_path, corpus=make_corpus(people=4, controls=2, lands=2), recipe=hasty)
    assert list(tmp_path.iterdir()) == []


def _answer(llm, tokenizer, prompt: str) -> str:
    asked = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        ids = llm.generate(**asked)[0, asked["input_ids"].size(1) :]
    return str(tokenizer.decode(ids, skip_special_tokens=True))
