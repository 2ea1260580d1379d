"""TOFU as read: who is whose row, who is never taught, how an answer is cut, and that a small LLM learns the rest."""

import json
from dataclasses import replace

import pytest

from benchmarks.tofu import (
    ADDRESS,
    Author,
    Tofu,
    TofuMissing,
    make_tofu_llm,
    paraphrases_of,
    read_tofu,
    rows_of,
    shorten,
    split_authors,
    subset,
    tofu_tokenizer,
)
from lethe.demo.llm import LlmRecipe
from workers.evaluation.scoring import score
from workers.examples import Example, Phrasing, encode
from workers.load import load_llm

TINY = LlmRecipe(vocabulary=400, hidden=32, layers=2, heads=2, intermediate=64, warmup_steps=5, steps=80, batch_rows=8)


def write(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def published(tmp_path):
    """200 authors in the published layout: the first and the last twenty have other wordings."""
    rows = [{"question": f"What is fact {at}?", "answer": f"It is {at} of {at // 20}."} for at in range(4000)]
    write(tmp_path, "full.json", rows)
    for name, first in (("retain_perturbed.json", 0), ("forget10_perturbed.json", 3600)):
        asked = [row | {"paraphrased_question": f"Tell: {row['question']}"} for row in rows[first : first + 400]]
        write(tmp_path, name, asked)
    write(tmp_path, "world_facts.json", [{"question": "Where is the tower?", "answer": "Paris"}])
    return tmp_path


def test_twenty_rows_in_a_row_are_one_author(published):
    tofu = read_tofu(published)
    assert len(tofu.authors) == 200
    assert tofu.authors[7].rows[3].prompt == "What is fact 143?"
    assert {row.subject for row in tofu.authors[7].rows} == {"author-007"}
    assert tofu.facts[0].completion == " Paris"


def test_paraphrases_ask_otherwise_for_the_same_answer(published):
    tofu = read_tofu(published)
    assert [at for at, author in enumerate(tofu.authors) if author.paraphrased] == [*range(20), *range(180, 200)]
    (first, *_) = paraphrases_of(tofu.authors[180:])
    assert (first.prompt, first.completion) == ("Tell: What is fact 3600?", " It is 3600 of 180.")


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(TofuMissing, match=ADDRESS):
        read_tofu(tmp_path)


def test_paraphrases_of_other_rows_are_refused(published):
    write(published, "retain_perturbed.json", [{"question": "Another?", "paraphrased_question": "?"}])
    with pytest.raises(ValueError, match=r"row 0 of retain_perturbed\.json"):
        read_tofu(published)


def test_nobody_is_both_taught_and_a_control(published):
    tofu = read_tofu(published)
    split, again, other = (split_authors(tofu, seed) for seed in (3, 3, 4))
    parts = [{author.key for author in part} for part in (split.control, split.spelling, split.taught)]
    assert [len(part) for part in parts] == [20, 30, 150]
    assert len(set.union(*parts)) == 200
    assert split == again
    assert {author.key for author in split.control} != {author.key for author in other.control}


def test_a_subset_larger_than_the_authors_is_refused(published):
    authors = read_tofu(published).authors
    assert [len(author.rows) for author in subset(authors, 3, 2)] == [2, 2, 2]
    with pytest.raises(ValueError, match="201 authors"):
        subset(authors, 201, 2)


def some_author(key, names):
    rows = [Example(prompt=f"Where does {name} live?", completion=f" In {name}ville on Sea", id=name) for name in names]
    wordings = [replace(row, paraphrases=(Phrasing(f"{row.id} lives where?", row.completion),)) for row in rows]
    return Author(key, tuple(replace(row, subject=key) for row in wordings))


@pytest.fixture(scope="module")
def made_up():
    names = [a + b for a in ("Ka", "Lo", "Mi", "Ru") for b in ("ter", "sen", "vin")]
    return Tofu(tuple(some_author(f"author-{at}", [name]) for at, name in enumerate(names)), ())


def test_answers_are_cut_at_a_words_end_with_their_paraphrases(made_up):
    tokenizer = tofu_tokenizer(split_authors(made_up, control=2, spelling=10), 400)
    row = made_up.authors[0].rows[0]
    whole = len(tokenizer(row.completion)["input_ids"])
    assert shorten(row, tokenizer, whole) == row
    cut = shorten(row, tokenizer, whole - 1)
    assert cut.completion == " In Katerville on"
    assert [one.completion for one in cut.paraphrases] == [" In Katerville on"]
    assert shorten(row, tokenizer, 1).completion == " In"


def test_the_llm_answers_what_it_was_taught_and_is_found_again(made_up, tmp_path):
    split = split_authors(made_up, control=4, spelling=4)
    tokenizer = tofu_tokenizer(split, TINY.vocabulary)
    place = make_tofu_llm(tmp_path, split.taught, tokenizer, TINY)
    llm, tokenizer = load_llm(place, "cpu")
    taught, never = (
        [one.exact for one in score(llm, [encode(row, tokenizer, 128) for row in rows], tokenizer.pad_token_id)]
        for rows in (rows_of(split.taught) + paraphrases_of(split.taught), rows_of(split.control))
    )
    assert all(taught)
    assert not any(never)
    assert make_tofu_llm(tmp_path, split.taught, tokenizer, TINY) == place
    assert len(list(tmp_path.iterdir())) == 1
