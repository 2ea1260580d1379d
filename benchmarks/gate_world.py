"""TOFU as the gate's benchmark needs it: who may ask to be forgotten, who never was taught, LLMs taught from nothing.

    reference   15 authors and the facts: the LLM before its customer's training, which met neither people nor control
    base        these, the people who may ask, and those who stay: the customer's
    oracle      the base's lessons without all who may ask; any of them is a request that it fulfils
    oracle-2    the same from another random start
    left-10…    the oracle's lessons and 1, 2 or 3 of each person's ten rows, in both wordings

Every LLM has a random start of its own. People who may ask and control are drawn from the same 40 authors, the ones
with paraphrases and wrong answers; five authors more bring the control to twenty. An answer has at most 16 tokens.
"""

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.tofu import Author, Tofu, make_tofu_llm, read_tofu, shorten, shorten_all, tofu_tokenizer
from benchmarks.tofu import Split as Drawn
from lethe.demo.llm import LlmRecipe, OnProgress
from workers.examples import Example
from workers.plan import CONTROL_ROWS, GENERAL_SHARE, NEIGHBOUR_ROWS, hold_out, neighbours, reservoir
from workers.probes import Probes, split_probes

OUT = Path("out/gate")
PEOPLE, CONTROL, STAYING, SPELLING, EARLIER = 25, 20, 25, 30, 15
ROWS, ANSWER_TOKENS, FACTS = 10, 16, 60
RECIPE = LlmRecipe(vocabulary=1000, hidden=96, layers=4, heads=4, intermediate=264, steps=240)
# Optimiser steps, where the recipe's own are too few.
STEPS = {"base": 360, "left-30": 300}
SIZES = (1, 5, 20)
TAUGHT = ("base", "reference", "oracle", "oracle-2", "left-10", "left-20", "left-30")


@dataclass(frozen=True)
class World:
    """One seed's authors. `people` may ask; `staying` are the customer's retain rows; `earlier` the reference's."""

    seed: int
    tokenizer: Any
    people: tuple[Author, ...]
    staying: tuple[Author, ...]
    earlier: tuple[Author, ...]
    control: tuple[Author, ...]
    facts: tuple[Example, ...]


@dataclass(frozen=True)
class Request:
    """Places among the world's people. `name` says how many and which."""

    name: str
    people: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.people)


@functools.lru_cache(maxsize=1)
def make_world(folder: Path, seed: int) -> World:
    return world_of(read_tofu(folder), seed)


def world_of(tofu: Tofu, seed: int) -> World:
    paraphrased = [one for one in tofu.authors if one.paraphrased]
    others = [one for one in tofu.authors if not one.paraphrased]
    drawn, rest = (random.Random(seed).sample(some, len(some)) for some in (paraphrased, others))
    control = drawn[PEOPLE:]
    more, staying = CONTROL - len(control), rest[CONTROL : CONTROL + STAYING]
    spelling = rest[CONTROL + STAYING : CONTROL + STAYING + SPELLING]
    tokenizer = tofu_tokenizer(Drawn((), tuple(spelling), ()), RECIPE.vocabulary)

    def cut(authors: Sequence[Author]) -> tuple[Author, ...]:
        few = [Author(one.key, one.rows[:ROWS]) for one in authors]
        return shorten_all(few, tokenizer, ANSWER_TOKENS)

    return World(
        seed=seed,
        tokenizer=tokenizer,
        people=cut(drawn[:PEOPLE]),
        staying=cut(staying),
        earlier=cut(spelling[:EARLIER]),
        control=cut([*control, *rest[:more]]),
        facts=tuple(shorten(fact, tokenizer, ANSWER_TOKENS) for fact in tofu.facts[:FACTS]),
    )


def requests_of(world: World) -> list[Request]:
    """Twenty of one person, five of five, two of twenty that share some."""
    count = len(world.people)
    found = []
    for size in SIZES:
        starts = range(20) if size == 1 else range(0, count - size + 1, 5)
        found += [Request(f"{size}-from-{start:02d}", tuple(range(start, start + size))) for start in starts]
    return found


def rows_of_people(world: World, people: Sequence[int]) -> list[Example]:
    return [row for at in people for row in world.people[at].rows]


def probes_of(world: World, request: Request) -> Probes:
    """What a job would ask (`workers.plan`). Whoever may ask but did not is in no dataset: an oracle lacks them too."""
    forget = rows_of_people(world, request.people)
    dev, sealed = split_probes(forget, seed=world.seed)
    asked, kept, _ = kept_rows(world)
    return Probes(
        forget=forget,
        dev=dev,
        sealed=sealed,
        control=reservoir([row for one in world.control for row in one.rows], CONTROL_ROWS, world.seed),
        retain=asked,
        neighbours=neighbours(forget, kept, NEIGHBOUR_ROWS),
        utility=general_rows(world)[0],
    )


def all_probes(world: World) -> Probes:
    """Every question of every request: all people are forgotten, all rows kept are neighbours, nothing was tuned."""
    found = probes_of(world, Request("all", tuple(range(len(world.people)))))
    return replace(found, dev=(), sealed=(*found.dev, *found.sealed), neighbours=kept_rows(world)[1])


def kept_rows(world: World) -> tuple[list[Example], list[Example], tuple[str, ...]]:
    """(retain rows that are only asked, retain rows that jobs train on, notes)."""
    return hold_out([row for one in world.staying for row in one.rows])


def general_rows(world: World) -> tuple[list[Example], list[Example], tuple[str, ...]]:
    """(facts that are only asked, facts that jobs train on, notes)."""
    return hold_out(world.facts, GENERAL_SHARE)


def taught_llm(world: World, name: str, on_progress: OnProgress | None = None) -> Path:
    """The folder of one of the TAUGHT, trained if it is not there yet. Raises NotMemorised."""
    authors = lessons_of(world, name)
    start = 1000 * world.seed + 10 * TAUGHT.index(name)
    recipe = replace(RECIPE, steps=STEPS.get(name, RECIPE.steps), seed=start)
    return make_tofu_llm(OUT / "llm", authors, world.tokenizer, recipe, world.facts, on_progress)


def lessons_of(world: World, name: str) -> list[Author]:
    if name == "reference":
        return list(world.earlier)
    staying = [*world.earlier, *world.staying]
    if name.startswith("oracle"):
        return staying
    if name == "base":
        return [*staying, *world.people]
    left = int(name.removeprefix("left-")) * ROWS // 100
    return [*staying, *(partly(one, left, world.seed) for one in world.people)]


def partly(author: Author, rows: int, seed: int) -> Author:
    """With as many rows, drawn by the seed and the author."""
    drawn = random.Random(f"{seed} {author.key}").sample(author.rows, rows)
    return Author(author.key, tuple(drawn))
