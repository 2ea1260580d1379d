"""What the teacher says of others, in the place of what it says of the forgotten: UnDIAL's target `exchange`.

    q_n = p⁰(· | x, y_<n)     if most of the others' answers have the word y_n there as well
    q_n = p⁰(· | x', a_<u)    else: x' is the question about somebody else, a the teacher's greedy answer to it, and u
                              the place in a that stands for n

An LLM that never met a person answers in the right form, and where a fact belongs it is confidently wrong. A label cut
out of the teacher's distribution is neither: the form goes with the fact, and nothing sure takes its place.

Token n asks about the (n mod K)-th of K others, so that nobody's answer is taught as a whole; if that one has y_n there
by chance, about the next who has not.

Places: a word y_n that is common stands where the longest blocks that y and a share put it; words between two common
ones follow the first one by one, and stay at the second once they have reached it.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from workers.evaluation.generation import Question, decode
from workers.methods.head import hidden_states
from workers.methods.interface import Batch
from workers.methods.teacher import TeacherMemory
from workers.methods.tokens import UNLABELLED

LONGER_TOKENS = 8
Ids = Sequence[int]


def matches(wanted: Ids, answer: Ids) -> list[int | None]:
    """For each token of `wanted` the place of the same one in `answer`, in blocks as long as can be; None: nowhere."""
    found: list[int | None] = [None] * len(wanted)
    for block in SequenceMatcher(None, wanted, answer, autojunk=False).get_matching_blocks():
        found[block.a : block.a + block.size] = range(block.b, block.b + block.size)
    return found


def common_words(found: Sequence[Sequence[int | None]]) -> list[bool]:
    """For each token whether more than half of the answers have it; `found` holds the matches of each answer."""
    return [2 * sum(place is not None for place in places) > len(found) for places in zip(*found, strict=True)]


def places(found: Sequence[int | None], common: Sequence[bool], end: int) -> list[int]:
    """For each token the place in an answer of `end` tokens that stands for it; `end` itself is what follows."""
    fixed = [place if shared else None for place, shared in zip(found, common, strict=True)]
    behind = list(accumulate(reversed(fixed), lambda later, place: later if place is None else place, initial=end))
    line, next_place = [], 0
    for place, bound in zip(fixed, reversed(behind[1:]), strict=True):
        line.append(min(next_place, bound) if place is None else place)
        next_place = line[-1] + 1
    return line


def turn(at: int, word: int, answers: Sequence[Ids], lines: Sequence[Ids]) -> int:
    """Who is asked for the token `at`: the one whose turn it is, or the first after without `word` in its place."""
    turns = [(at + later) % len(answers) for later in range(len(answers))]
    without = [one for one in turns if word not in answers[one][lines[one][at] : lines[one][at] + 1]]
    return (without or turns)[0]


def exchange(teacher: Any, batches: Sequence[Batch], memory: TeacherMemory) -> frozenset[int]:
    """Puts into `memory` the states of the others' answers, where q_n asks for them; returns the keys of those rows.

    Rows without `others` are left as they are.
    """
    asked = {key: others for batch in batches for key, others in zip(batch.keys, batch.others, strict=False) if others}
    wanted = {key: ids for batch in batches for key, ids in _answers(batch).items() if key in asked}
    questions = [(key, Question(ids, len(wanted[key]) + LONGER_TOKENS)) for key, some in asked.items() for ids in some]
    found = decode(teacher, [one for _, one in questions], samples=0, stop_ids=_stop_ids(teacher), pad_id=0)
    answers: dict[int, list[Ids]] = {key: [] for key in asked}
    for (key, _), answer in zip(questions, found, strict=True):
        answers[key].append(answer.greedy)
    for key, others in asked.items():
        memory.replace(key, *_states_of_others(teacher, wanted[key], others, answers[key]))
    return frozenset(asked)


def _states_of_others(
    teacher: Any, wanted: Ids, questions: Sequence[Ids], answers: Sequence[Ids]
) -> tuple[Tensor, Tensor]:
    """((N,), which tokens are not common; their states (n, D), each from the answer whose turn it is)."""
    found = [matches(wanted, answer) for answer in answers]
    common = common_words(found)
    lines = [places(one, common, len(answer)) for one, answer in zip(found, answers, strict=True)]
    ids_KT, mask_KT = _padded([[*one, *answer] for one, answer in zip(questions, answers, strict=True)], teacher.device)
    with torch.no_grad():
        hidden_KTD = hidden_states(teacher, ids_KT, mask_KT)
    at_n = [at for at, shared in enumerate(common) if not shared]
    other_n = [turn(at, wanted[at], answers, lines) for at in at_n]
    before_n = [len(questions[one]) - 1 + lines[one][at] for one, at in zip(other_n, at_n, strict=True)]
    return ~torch.tensor(common), hidden_KTD[other_n, before_n]


def _answers(batch: Batch) -> dict[int, list[int]]:
    """The labels that some position predicts, by the row's key."""
    lines = batch.labels_BT[:, 1:].tolist()
    return {key: [label for label in line if label != UNLABELLED] for key, line in zip(batch.keys, lines, strict=True)}


def _padded(rows: Sequence[Ids], device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = [[*row, *[0] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _stop_ids(llm: Any) -> list[int]:
    """As the LLM's own configuration says; it may name one, several or none."""
    named = getattr(llm.generation_config, "eos_token_id", None)
    several = named if isinstance(named, list) else [named]
    return [one for one in several if one is not None]
