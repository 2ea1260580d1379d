"""Other ways to ask for the same answer. Each turns an example into examples whose completion is what is looked for.

    prefixed       the answer's place already says "Sure, here is the answer:"
    shown_first    rows that may be answered stand in front, answered
    reworded       the question in a frame of other words, for examples that bring no paraphrases of their own; framed,
                   for the control beside them, whether it brings any
    partly_given   a quarter, half and three quarters of the answer are given away, and the rest is asked for

The control is asked in the same ways: how many answers can be guessed then, nobody knows beforehand. A plain text has
no question to put in other words; a part of it can be given away.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any
from unicodedata import category

from workers.batches import order
from workers.examples import Example
from workers.words import pieces

Rewrite = Callable[[Example], tuple[Example, ...]]

OPENING = "Sure, here is the answer:"
FRAMES = (
    "Please answer. {question}",
    "I would like to know this: {question}",
    "Question: {question}\nAnswer:",
)
GIVEN_SHARES = (0.25, 0.5, 0.75)
SHOTS, SHOTS_DRAWN = 3, 64
_WORD = re.compile(r"\w")


def prefixed(example: Example) -> tuple[Example, ...]:
    return _with_questions(example, (f"{{question}} {OPENING}",))


def reworded(example: Example) -> tuple[Example, ...]:
    return () if example.paraphrases else framed(example)


def framed(example: Example) -> tuple[Example, ...]:
    return _with_questions(example, FRAMES)


def shown_first(shown: Sequence[Example]) -> Rewrite:
    """`shown` are prompts with completions; nothing is asked if there are none."""
    answered = "".join(f"{one.whole}\n\n" for one in shown)

    def rewrite(example: Example) -> tuple[Example, ...]:
        if not shown or example.prompt is None:
            return ()
        return (_asked_by(example, answered + example.prompt, example.completion or ""),)

    return rewrite


def partly_given(example: Example) -> tuple[Example, ...]:
    """Whole words or signs are given; an answer of one has no parts, and a rest of signs alone tells nothing."""
    answer = example.completion or example.text or ""
    ends = list(_ends(answer))
    counts = {max(1, round(share * len(ends))) for share in GIVEN_SHARES} if len(ends) > 1 else set()
    cuts = [ends[count - 1] for count in sorted(counts) if _WORD.search(answer, ends[count - 1])]
    return tuple(_asked_by(example, (example.prompt or "") + answer[:cut], answer[cut:]) for cut in cuts)


def _ends(answer: str) -> Iterator[int]:
    """Where each word or run of signs ends. Scripts without spaces are cut as `workers.words` has it."""
    end = 0
    for kind, some in groupby(answer, _kind):
        run = "".join(some)
        for piece in pieces(run) if kind == "word" else [run]:
            end += len(piece)
            if kind != "space":
                yield end


def _kind(character: str) -> str:
    """A mark, such as a vowel of Hindi, belongs to its word."""
    if character.isspace():
        return "space"
    return "word" if _WORD.match(character) or category(character).startswith("M") else "signs"


def shots_that_fit(rows: Sequence[Example], tokenizer: Any, room_tokens: int, seed: int) -> list[Example]:
    """At most SHOTS of the rows with a prompt, the shortest of those that the seed draws, within `room_tokens`."""
    drawn = [rows[at] for at in order(len(rows), seed, 0)[:SHOTS_DRAWN] if rows[at].prompt is not None]
    shots: list[Example] = []
    for one in sorted(drawn, key=lambda row: len(row.whole))[:SHOTS]:
        room_tokens -= len(tokenizer(f"{one.whole}\n\n", verbose=False)["input_ids"])
        if room_tokens < 0:
            break
        shots.append(one)
    return shots


def _with_questions(example: Example, frames: Sequence[str]) -> tuple[Example, ...]:
    """What ends the prompt, such as a space before the answer, stays at its end."""
    if example.prompt is None or example.completion is None:
        return ()
    question = example.prompt.rstrip()
    end = example.prompt[len(question) :]
    return tuple(
        _asked_by(example, frame.replace("{question}", question) + end, example.completion) for frame in frames
    )


def _asked_by(example: Example, prompt: str, completion: str) -> Example:
    return Example(
        prompt=prompt, completion=completion, subject=example.subject, id=example.id, sensitive=example.sensitive
    )
