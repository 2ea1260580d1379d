"""Gives each forget item the level that it would have if it had never been trained, before training begins."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from workers.batches import Encoded, pad_id_of
from workers.evaluation.scoring import score
from workers.examples import Example, fitting_windows
from workers.lessons import Lessons
from workers.never_trained import FEWEST_HELD, TokenCounts, scale_of, with_levels

MOST_CONTROL_ROWS = 120
HELD_TOKENS = 500_000  # counting one takes some 700 bytes


def with_own_levels(
    lessons: Lessons,
    llm: Any,
    tokenizer: Any,
    control: Sequence[Example],
    context_tokens: int,
    most_tokens: int | None = None,
) -> Lessons:
    """The lessons with `token_levels` in every forget window, and a note; a note alone where there is too little to
    estimate them from. The LLM reads control rows of `most_tokens` tokens at once.
    """
    windows_of = (fitting_windows(one, tokenizer, context_tokens) for one in control[:MOST_CONTROL_ROWS])
    asked = [windows for windows in windows_of if windows]
    if len(lessons.retain) < FEWEST_HELD or not asked:
        return _held_to_one(lessons, len(asked))
    held = list(_up_to(HELD_TOKENS, (row.encoded.ids for row in lessons.retain)))
    counts = TokenCounts(held, len(tokenizer))
    scores = score(llm, asked, pad_id_of(tokenizer), most_tokens=most_tokens)
    exact = scale_of(counts, asked, [one.nll for one in scores])
    if exact is None:
        return _held_to_one(lessons, len(asked))
    scale = float(f"{exact:.3g}")  # measured: its last digits may differ between two executions

    @functools.cache  # a row that is trained on is judged as well
    def levelled(window: Encoded) -> Encoded:
        return with_levels(window, counts, scale)

    note = (
        f"never-trained levels of the forget set's tokens were estimated from {len(held)} rows that are "
        f"held, times {scale:g} by {len(asked)} control rows"
    )
    return replace(
        lessons,
        rows=[[replace(row, encoded=levelled(row.encoded)) for row in rows] for rows in lessons.rows],
        judged=[(item, [levelled(one) for one in windows]) for item, windows in lessons.judged],
        notes=(*lessons.notes, note),
    )


def _up_to(most_tokens: int, rows: Iterable[Sequence[int]]) -> Iterator[Sequence[int]]:
    for row in rows:
        if most_tokens <= 0:
            return
        yield row[:most_tokens]
        most_tokens -= len(row)


def _held_to_one(lessons: Lessons, control_rows: int) -> Lessons:
    note = (
        f"{len(lessons.retain)} held rows and {control_rows} control rows are too few to estimate never-trained "
        "levels of the forget set's tokens: one level stands for all"
    )
    return replace(lessons, notes=(*lessons.notes, note))
