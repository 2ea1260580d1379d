"""Two worlds whose people ask to be forgotten one after another: the demo's made-up one, and TOFU's authors.

Whoever uses a `World` cannot tell which it is. Its people are asked in the phrasings of the training dataset and in a
*held* phrasing that no dataset ever holds; some of them the LLM was taught in the held phrasing too, and some never.

demo  60 people, or 100 if more than twenty ask; five facts each, in three phrasings and a held one, which three
      quarters are taught. General knowledge is that of lands. A seed makes another world and another LLM.
tofu  100 authors of five rows. Published paraphrases are the held phrasings; one author in five has any, all who do
      and may be taught are among the hundred, and half of them are taught these too. General knowledge is about the
      real world. A seed draws others as control, spelling and taught, another order, and another LLM.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.tofu import (
    SMALL,
    Author,
    Split,
    make_tofu_llm,
    one_wording,
    read_tofu,
    rows_of,
    shorten,
    shorten_all,
    split_authors,
    subset,
    tofu_tokenizer,
)
from lethe.demo.corpus import Corpus, control_rows, forget_rows, make_corpus, retain_rows, utility_rows
from lethe.demo.llm import LlmRecipe, make_llm
from workers.examples import Example, parse, with_phrasing
from workers.load import load_llm

LLMS = Path("out/llm")
WORLDS = ("demo", "tofu")
MOST_OF_SIXTY = 20


@dataclass(frozen=True)
class Person:
    """`rows` as they stand in the training dataset; the held phrasings are their paraphrases, whether taught or not."""

    subject: str
    rows: tuple[Example, ...]
    taught_held: bool

    @property
    def held(self) -> list[Example]:
        return [with_phrasing(row, phrasing) for row in self.rows for phrasing in row.paraphrases]


@dataclass(frozen=True)
class World:
    """One seed's LLM, people and datasets. `asking` make a request each, in this order; `others` never do.

    `training` are all rows of all people and `retain` a customer's sample to keep, half of them: both as before the
    first request, with rows of whoever will ask. `utility_anchors` are general knowledge that jobs may train on,
    `utility` the other half of it, which is only asked.
    """

    seed: int
    llm: Any
    tokenizer: Any
    asking: tuple[Person, ...]
    others: tuple[Person, ...]
    training: tuple[Example, ...]
    retain: tuple[Example, ...]
    utility_anchors: tuple[Example, ...]
    utility: tuple[Example, ...]
    control: tuple[Example, ...]


def make_world(name: str, seed: int, requests: int, tofu: Path) -> World:
    """The LLM is trained if it is not in out/llm. Raises TofuMissing, or ValueError if too many ask."""
    return demo_world(seed, requests) if name == "demo" else tofu_world(tofu, seed, requests)


def demo_world(seed: int, requests: int) -> World:
    few = requests <= MOST_OF_SIXTY
    corpus = make_corpus(seed, people=60 if few else 100)
    recipe = LlmRecipe() if few else LlmRecipe(steps=600)
    return world_of_corpus(corpus, requests, *load_llm(make_llm(LLMS, corpus=corpus, recipe=recipe), "cpu"))


def world_of_corpus(corpus: Corpus, requests: int, llm: Any, tokenizer: Any) -> World:
    people = random.Random(corpus.seed).sample(corpus.people, len(corpus.people))
    asking, others = _divided(
        [Person(one.name, _parsed(forget_rows(one)), one.taught_held) for one in people], requests
    )
    anchors, asked = _halves(_parsed(utility_rows(corpus)), corpus.seed)
    return World(
        seed=corpus.seed,
        llm=llm,
        tokenizer=tokenizer,
        asking=asking,
        others=others,
        training=_parsed(row for person in corpus.people for row in forget_rows(person)),
        retain=_parsed(retain_rows(corpus)),
        utility_anchors=anchors,
        utility=asked,
        control=_parsed(control_rows(corpus)),
    )


def tofu_world(folder: Path, seed: int, requests: int) -> World:
    tofu, recipe = read_tofu(folder), replace(SMALL.recipe, seed=100 * seed)
    split = split_authors(tofu, seed)
    tokenizer = tofu_tokenizer(split, recipe.vocabulary)
    taught, control = (
        shorten_all(subset(some, len(some), SMALL.rows), tokenizer, SMALL.answer_tokens)
        for some in (taught_authors(split, SMALL.authors, seed), split.control)
    )
    facts = tuple(shorten(fact, tokenizer, SMALL.answer_tokens) for fact in tofu.facts)
    untaught = untaught_wordings(taught)
    lessons = [one_wording(one) if one.key in untaught else one for one in taught]
    llm, tokenizer = load_llm(make_tofu_llm(LLMS, lessons, tokenizer, recipe, facts), "cpu")
    asking, others = _divided([Person(one.key, one.rows, one.key not in untaught) for one in taught], requests)
    anchors, asked = _halves(facts, seed)
    return World(
        seed=seed,
        llm=llm,
        tokenizer=tokenizer,
        asking=asking,
        others=others,
        training=tuple(rows_of(taught)),
        retain=_halves(rows_of(taught), seed + 1)[0],
        utility_anchors=anchors,
        utility=asked,
        control=tuple(rows_of(control)),
    )


def taught_authors(split: Split, count: int, seed: int) -> list[Author]:
    """`count` of those who may be taught, whoever has paraphrases first, in an order drawn by the seed."""
    chosen = sorted(split.taught, key=lambda author: not author.paraphrased)[:count]
    return random.Random(seed).sample(chosen, len(chosen))


def untaught_wordings(taught: Sequence[Author]) -> frozenset[str]:
    """Keys of every second author with paraphrases: these are never taught."""
    return frozenset(author.key for author in [one for one in taught if one.paraphrased][::2])


def _divided(people: Sequence[Person], requests: int) -> tuple[tuple[Person, ...], tuple[Person, ...]]:
    if requests >= len(people):
        raise ValueError(f"{requests} of {len(people)} people would ask and nobody be left: ask for fewer requests")
    return tuple(people[:requests]), tuple(people[requests:])


def _halves(rows: Sequence[Example], seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    drawn = random.Random(seed).sample(rows, len(rows))
    return tuple(drawn[: len(rows) // 2]), tuple(drawn[len(rows) // 2 :])


def _parsed(rows: Iterable[Mapping[str, Any]]) -> tuple[Example, ...]:
    return tuple(map(parse, rows))
