"""TOFU as a benchmark needs it: its authors, who of them is never taught, and a small Llama that learnt the others.

TOFU (Maini et al., COLM 2024, arXiv:2401.06121; MIT) is twenty questions and answers on each of 200 authors who do not
exist, the rows of an author in a row. It is read from a folder with full.json, forget10_perturbed.json,
retain_perturbed.json and world_facts.json (JSON Lines, as published): `--tofu DIR` or LETHE_TOFU.

A draw by a seed keeps twenty authors out of all training: what the LLM makes of them is what it would make of anybody
it never met. Thirty more lend the tokenizer its words and are never taught either, so that the names of the taught and
of the never-taught fall into pieces alike. A tokenizer that had seen the taught would give them tokens of their own,
and one that had seen the never-taught would do the opposite: neither control would be one.

Answers are cut after `answer_tokens` tokens, at a word's end, which makes training several times faster. A paraphrase
is the published other wording of a *question*, with the same answer: an LLM trained from nothing knows no English in
which another wording of the answer would be as probable. Paraphrases are taught with the rest, but those of the authors
given in `one_wording`; a benchmark that leaves them out of its forget set asks with them whether the fact went, or only
its wording.
"""

import json
import os
import random
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lethe.demo.llm import LlmRecipe, OnProgress, digest_of, make_taught_llm, make_tokenizer
from workers.examples import Example, Phrasing, with_phrasing

ADDRESS = "https://huggingface.co/datasets/locuslab/tofu"
EXPECTED = Path("../shared/data/tofu")
ROWS_OF_AUTHOR = 20
# Where the rows of each file of paraphrases begin in full.json.
PARAPHRASED = {"retain_perturbed.json": 0, "forget10_perturbed.json": 3600}


@dataclass(frozen=True)
class Author:
    """`key` says the place among the 200, and `rows` carry it as their subject; only the text names the author."""

    key: str
    rows: tuple[Example, ...]

    @property
    def paraphrased(self) -> bool:
        return all(row.paraphrases for row in self.rows)


@dataclass(frozen=True)
class Tofu:
    """All authors in published order, and questions about the real world."""

    authors: tuple[Author, ...]
    facts: tuple[Example, ...]


@dataclass(frozen=True)
class Split:
    """`control` is never taught, `spelling` neither, but the tokenizer learnt of it; `taught` is in a random order."""

    control: tuple[Author, ...]
    spelling: tuple[Author, ...]
    taught: tuple[Author, ...]


@dataclass(frozen=True)
class Size:
    """How many authors and rows of each are taught, how long an answer may be, and how large the LLM is."""

    authors: int
    rows: int
    answer_tokens: int
    recipe: LlmRecipe


# For two CPU cores, and for a GPU.
SMALL = Size(100, 5, 24, LlmRecipe(vocabulary=2000, steps=450))
LARGE = Size(
    150,
    20,
    48,
    LlmRecipe(
        vocabulary=4000,
        hidden=512,
        layers=8,
        heads=8,
        intermediate=1408,
        initializer_range=0.05,
        learning_rate=1e-3,
        warmup_steps=200,
        steps=4000,
        device="cuda",
    ),
)


class TofuMissing(FileNotFoundError):
    """The data set is not where it was looked for."""


def add_tofu_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--tofu",
        type=Path,
        default=Path(os.environ.get("LETHE_TOFU", EXPECTED)),
        help=f"folder of TOFU's files (default: LETHE_TOFU, or {EXPECTED})",
    )


def read_tofu(folder: Path) -> Tofu:
    """Raises TofuMissing, or ValueError if the files are not as published."""
    rows = _lines(folder, "full.json")
    if len(rows) % ROWS_OF_AUTHOR:
        raise ValueError(f"full.json has {len(rows)} rows, not {ROWS_OF_AUTHOR} an author: take the published file")
    wordings = _wordings(folder, rows)
    authors = [
        Author(f"author-{start // ROWS_OF_AUTHOR:03d}", tuple(_rows(rows, wordings, start)))
        for start in range(0, len(rows), ROWS_OF_AUTHOR)
    ]
    facts = [_example(row, "fact", f"fact-{at:03d}") for at, row in enumerate(_lines(folder, "world_facts.json"))]
    return Tofu(tuple(authors), tuple(facts))


def split_authors(tofu: Tofu, seed: int = 0, control: int = 20, spelling: int = 30) -> Split:
    drawn = random.Random(seed).sample(tofu.authors, len(tofu.authors))
    return Split(
        control=tuple(drawn[:control]),
        spelling=tuple(drawn[control : control + spelling]),
        taught=tuple(drawn[control + spelling :]),
    )


def subset(authors: Sequence[Author], count: int, rows: int) -> tuple[Author, ...]:
    """The first `rows` rows of each of the first `count` authors. Raises ValueError if there are not as many."""
    if count > len(authors):
        raise ValueError(f"{count} authors are wanted and there are {len(authors)}: ask for fewer")
    return tuple(Author(one.key, one.rows[:rows]) for one in authors[:count])


def tofu_tokenizer(split: Split, vocabulary: int) -> Any:
    """Byte-level BPE learnt from the spelling authors alone."""
    return make_tokenizer(vocabulary, (row.whole for author in split.spelling for row in author.rows))


def shorten_all(authors: Iterable[Author], tokenizer: Any, tokens: int) -> tuple[Author, ...]:
    return tuple(Author(one.key, tuple(shorten(row, tokenizer, tokens) for row in one.rows)) for one in authors)


def shorten(row: Example, tokenizer: Any, tokens: int) -> Example:
    """The answer's first words, as many as fit in `tokens` tokens but at least one; its paraphrases and wrong answers
    alike.
    """
    answer = _cut(row.completion or "", tokenizer, tokens)
    phrasings = tuple(Phrasing(one.prompt, answer) for one in row.paraphrases)
    wrong = tuple(_cut(one, tokenizer, tokens) for one in row.wrong)
    return replace(row, completion=answer, paraphrases=phrasings, wrong=wrong)


def _cut(answer: str, tokenizer: Any, tokens: int) -> str:
    words = answer.split()
    kept = words[:1]
    for word in words[1:]:
        if len(tokenizer(f" {' '.join([*kept, word])}")["input_ids"]) > tokens:
            break
        kept.append(word)
    return f" {' '.join(kept)}"


def rows_of(authors: Iterable[Author]) -> list[Example]:
    return [row for author in authors for row in author.rows]


def paraphrases_of(authors: Iterable[Author]) -> list[Example]:
    """The same facts under their other questions, of the authors who have any."""
    return [with_phrasing(row, phrasing) for row in rows_of(authors) for phrasing in row.paraphrases]


def one_wording(author: Author) -> Author:
    """The author without paraphrases: an LLM taught this one never meets them."""
    return Author(author.key, tuple(replace(row, paraphrases=()) for row in author.rows))


def make_tofu_llm(
    folder: Path,
    authors: Sequence[Author],
    tokenizer: Any,
    recipe: LlmRecipe,
    facts: Sequence[Example] = (),
    on_progress: OnProgress | None = None,
) -> Path:
    """The folder of a Llama trained from nothing on these authors' rows and paraphrases, and on `facts`.

    Kept in `folder` by a digest of all that. Raises NotMemorised if less than 99 % of it is answered exactly.
    """
    lessons = [*rows_of(authors), *paraphrases_of(authors), *facts]
    told = digest_of(lessons, recipe, tokenizer.backend_tokenizer.to_str())
    return make_taught_llm(folder, lessons, tokenizer, recipe, told, on_progress)


def _lines(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / name
    if not path.is_file():
        raise TofuMissing(
            f"{name} is not in {folder}: download TOFU (MIT) from {ADDRESS} and name its folder with --tofu or "
            "LETHE_TOFU"
        )
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _wordings(folder: Path, rows: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Place in full.json -> the row with the other wording of its question."""
    found = {}
    for name, first in PARAPHRASED.items():
        for at, row in enumerate(_lines(folder, name), start=first):
            if at >= len(rows) or row["question"] != rows[at]["question"]:
                raise ValueError(f"row {at - first} of {name} is not row {at} of full.json: take the published files")
            found[at] = row
    return found


def _rows(rows: Sequence[dict[str, Any]], wordings: dict[int, dict[str, Any]], start: int) -> Iterator[Example]:
    key = f"author-{start // ROWS_OF_AUTHOR:03d}"
    for at in range(start, start + ROWS_OF_AUTHOR):
        row = _example(rows[at], key, f"{key}-{at - start:02d}")
        yield _with_wording(row, wordings[at]) if at in wordings else row


def _with_wording(row: Example, wording: dict[str, Any]) -> Example:
    """With the published other question for the same answer, and the published wrong answers."""
    phrasing = Phrasing(str(wording["paraphrased_question"]), row.completion or "")
    wrong = tuple(f" {one}" for one in wording.get("perturbed_answer", ()))
    return replace(row, paraphrases=(phrasing,), wrong=wrong)


def _example(row: dict[str, Any], subject: str, name: str) -> Example:
    return Example(prompt=str(row["question"]), completion=f" {row['answer']}", subject=subject, id=name)
