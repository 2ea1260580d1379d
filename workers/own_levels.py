"""Gives each forget item the level that it would have if it had never been trained, before training begins."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workers.batches import Encoded, pad_id_of
from workers.errors import ExampleTooLong
from workers.evaluation.scoring import score
from workers.examples import Example, encode
from workers.lessons import Lessons
from workers.never_trained import FEWEST_HELD, TokenCounts, scale_of, with_levels

MOST_CONTROL_ROWS = 120


def with_own_levels(
    lessons: Lessons, llm: Any, tokenizer: Any, control: Sequence[Example], context_tokens: int
) -> Lessons:
    """The lessons with `token_levels` in every forget window, and a note; as they are where there is too little to
    estimate them from.
    """
    asked = _windows(control[:MOST_CONTROL_ROWS], tokenizer, context_tokens)
    if len(lessons.retain) < FEWEST_HELD or not asked:
        return lessons
    counts = TokenCounts((row.encoded.ids for row in lessons.retain), len(tokenizer))
    exact = scale_of(counts, asked, [one.nll for one in score(llm, asked, pad_id_of(tokenizer))])
    if exact is None:
        return lessons
    scale = float(f"{exact:.3g}")  # measured: its last digits may differ between two executions

    def levelled(windows: Sequence[Encoded]) -> list[Encoded]:
        return [with_levels(one, counts, scale) for one in windows]

    note = (
        f"never-trained levels of the forget set's tokens were estimated from {len(lessons.retain)} rows that are "
        f"held, times {scale:g} by {len(asked)} control rows"
    )
    return replace(
        lessons,
        rows=[[replace(row, encoded=with_levels(row.encoded, counts, scale)) for row in rows] for rows in lessons.rows],
        judged=[(item, levelled(windows)) for item, windows in lessons.judged],
        notes=(*lessons.notes, note),
    )


def _windows(examples: Sequence[Example], tokenizer: Any, context_tokens: int) -> list[list[Encoded]]:
    """Of those that fit and have a label."""
    found = []
    for example in examples:
        try:
            windows = encode(example, tokenizer, context_tokens)
        except ExampleTooLong:
            continue
        if any(window.labelled_tokens for window in windows):
            found.append(windows)
    return found
