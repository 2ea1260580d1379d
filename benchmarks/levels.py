"""How much an LLM knows of each group of a world: one teacher-forced pass over the questions of each."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.worlds import Person, World
from lethe.demo.llm import CONTEXT_TOKENS
from workers.evaluation.scoring import score
from workers.examples import Example, encode


@dataclass(frozen=True)
class Level:
    """Of a group's answers: share exact, mean token probability, the largest chance that one sample is the answer."""

    asked: int
    exact: float
    probability: float
    largest: float


def levels(world: World, llm: Any, forgotten: int, newest: int, everybody: bool) -> dict[str, dict[str, float]]:
    """Level by group, without the empty ones: those forgotten so far as trained, and all others if `everybody`.

    `others_unseen` are asked in a phrasing that neither a dataset nor the LLM ever met.
    """
    past = world.asking[:forgotten]
    groups = {"newest": _trained(past[-newest:]), "forgotten": _trained(past)}
    if everybody:
        groups |= {
            "forgotten_held": _held(past),
            "others": _trained(world.others),
            "others_held": _held(person for person in world.others if person.taught_held),
            "others_unseen": _held(person for person in world.others if not person.taught_held),
            "utility": list(world.utility),
            "control": list(world.control),
        }
    return {name: asdict(level(world, llm, some)) for name, some in groups.items() if some}


def level(world: Any, llm: Any, examples: Iterable[Example]) -> Level:
    """`world` is anything that has the tokenizer."""
    items = [encode(one, world.tokenizer, CONTEXT_TOKENS) for one in examples]
    if not items:
        return Level(0, 0.0, 0.0, 0.0)
    scores = score(llm, items, world.tokenizer.pad_token_id)
    return Level(
        asked=len(scores),
        exact=sum(one.exact for one in scores) / len(scores),
        probability=sum(one.token_probability for one in scores) / len(scores),
        largest=max(one.sampled_probability for one in scores),
    )


def _trained(people: Iterable[Person]) -> list[Example]:
    return [row for person in people for row in person.rows]


def _held(people: Iterable[Person]) -> list[Example]:
    return [question for person in people for question in person.held]
