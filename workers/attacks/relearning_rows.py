"""Which rows are trained on again, for how long, and which are asked before and after.

    benign       50 steps on rows to keep, none of the forget set: an LLM that never knew has nothing to recover
    half_split   half of the forget set, the other half asked: learning some facts must not bring back others
    savings      the forget set and as many never-trained rows, each as often: what was known once is learnt faster

In the last two the control goes through the same, row by row, so that an ignorant LLM does to both whatever it does to
either. Control rows are taken by whole subjects, as people ask to be forgotten.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from workers.batches import order
from workers.examples import Example

BENIGN_STEPS, BENIGN_BATCH = 50, 8
HALF_SPLIT_ROUNDS = 3
MIXED_BATCH = 16
# 16 steps of 8 rows: a small forget set is repeated until it has had these.
LEAST_FORGET_ROWS = 128
CONTROL_ROWS = 40

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Relearning:
    """`forget` and `control` are the ordinals of the rows that are asked; `trained` are others, or the same."""

    name: Literal["benign", "half_split", "savings"]
    trained: tuple[Example, ...]
    steps: int
    batch_size: int
    forget: tuple[int, ...]
    control: tuple[int, ...]


def benign(
    forget: Sequence[Example], control: Sequence[Example], near: Iterable[Example], others: Sequence[Example], seed: int
) -> Relearning | None:
    """`near` are the rows to keep that are closest to the forget set: all of them, then `others`. None without any.

    Rows with an answer of the forget set are left out, unless all have one: they could give away what they share.
    """
    told = {answer_of(one) for one in forget}
    rows = list({one.whole: one for one in (*near, *_shuffled(others, seed))}.values())
    unlike = [one for one in rows if answer_of(one) not in told] or rows
    if not unlike:
        return None
    asked = sorted(order(len(control), seed, 0)[:CONTROL_ROWS])
    trained = tuple(unlike[: BENIGN_STEPS * BENIGN_BATCH])
    return Relearning("benign", trained, BENIGN_STEPS, BENIGN_BATCH, tuple(range(len(forget))), tuple(asked))


def half_split(forget: Sequence[Example], control: Sequence[Example], seed: int) -> Relearning | None:
    """By subject, so that nothing of whoever is asked was trained on; one subject's by fact. None if it is one fact.

    Rows with the same answer are one fact in other words and stay together.
    """
    by_fact = len({_subject_of(at, one) for at, one in enumerate(forget)}) < 2
    learnt, asked = _halves(forget, range(len(forget)), by_fact, seed)
    if not learnt:
        return None
    chosen = whole_subjects(control, max(len(forget), CONTROL_ROWS), seed)
    control_learnt, control_asked = _halves(control, chosen, by_fact, seed)
    trained = (*(forget[at] for at in learnt), *(control[at] for at in control_learnt))
    rounds = max(HALF_SPLIT_ROUNDS, math.ceil(LEAST_FORGET_ROWS / len(learnt)))
    return Relearning("half_split", trained, _steps(trained, rounds), MIXED_BATCH, tuple(asked), tuple(control_asked))


def savings(forget: Sequence[Example], control: Sequence[Example], seed: int) -> Relearning | None:
    """None without a control: nothing else says how fast a row is learnt."""
    chosen = whole_subjects(control, max(len(forget), CONTROL_ROWS), seed)
    if not chosen:
        return None
    trained = (*forget, *(control[at] for at in chosen))
    rounds = math.ceil(LEAST_FORGET_ROWS / len(forget))
    everything = tuple(range(len(forget)))
    return Relearning("savings", trained, _steps(trained, rounds), MIXED_BATCH, everything, tuple(chosen))


def whole_subjects(rows: Sequence[Example], count: int, seed: int) -> list[int]:
    """Ordinals, ascending: subject after subject, in an order drawn by the seed, until there are `count` rows."""
    chosen: list[int] = []
    for some in _shuffled(_grouped(range(len(rows)), lambda at: _subject_of(at, rows[at])), seed):
        if len(chosen) >= count:
            break
        chosen += some
    return sorted(chosen)


def answer_of(example: Example) -> str:
    """What must not be produced, however the spaces are put."""
    return " ".join((example.completion or example.text or "").split())


def _subject_of(at: int, example: Example) -> Hashable:
    """A row without a subject is its own."""
    return at if example.subject is None else example.subject


def _halves(rows: Sequence[Example], among: Iterable[int], by_fact: bool, seed: int) -> tuple[list[int], list[int]]:
    """(to train on, to ask), both ascending: half of the subjects each, or by fact half of each subject's facts.

    The odd one is asked.
    """
    subjects = _grouped(among, lambda at: _subject_of(at, rows[at]))
    wholes = [_grouped(some, lambda at: answer_of(rows[at])) for some in subjects] if by_fact else [subjects]
    learnt: list[int] = []
    for parts in wholes:
        learnt += [at for some in _shuffled(parts, seed)[: len(parts) // 2] for at in some]
    known = set(learnt)
    return sorted(known), sorted(at for parts in wholes for some in parts for at in some if at not in known)


def _grouped(ordinals: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """In order of appearance."""
    found: dict[Hashable, list[int]] = {}
    for at in ordinals:
        found.setdefault(key(at), []).append(at)
    return list(found.values())


def _steps(trained: Sequence[Example], rounds: int) -> int:
    return math.ceil(rounds * len(trained) / MIXED_BATCH)


def _shuffled(items: Sequence[T], seed: int) -> list[T]:
    return [items[at] for at in order(len(items), seed, 0)]
