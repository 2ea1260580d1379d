"""What one job trains on: forget items with their dev probes, and the retain rows that go with them.

Retain rows that are a forget row or a paraphrase of one, or are about the same subject, are left out: a loss cannot
hold and remove the same thing.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from records.evidence import Kept
from records.examples import letters, one_spelling
from records.params import parse_parameters
from workers.alternatives import ALTERNATIVES
from workers.batches import Encoded, Row, order
from workers.errors import ExampleTooLong, UnlearningError
from workers.examples import Example, Probe, encode, fitting_windows, with_phrasing
from workers.focus import FOCUS_WEIGHT, Focus
from workers.others import others_asked
from workers.rewordings import Questions, rewordings


@dataclass(frozen=True)
class UnlearnWork:
    """What to forget, and how.

    `replay` are earlier requests' forget rows: they get a step only while they are known. `control_level` is the mean
    token probability of the control on the base version, None without one; `control` are rows of it, which tell an
    answer's own never-trained level. `dev_probes` name forget rows. `unspoken` are rows of others who asked, of whom
    `kept` has hashes alone: what shows them is never a text to hold.
    """

    forget: Sequence[Example]
    retain: Sequence[Example] = ()
    dev_probes: Sequence[Probe] = ()
    replay: Sequence[Example] = ()
    unspoken: Sequence[Example] = ()
    kept: Kept | None = None
    control: Sequence[Example] = ()
    control_level: float | None = None
    method: str = "undial"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    context_tokens: int | None = None

    @property
    def focus(self) -> Focus | None:
        """Which labels of the forget rows matter most; None if all do, or the method has no such parameter."""
        kind = self.parameters.get("focus", "none")
        return None if kind == "none" else Focus(kind, self.parameters.get("focus_weight", FOCUS_WEIGHT))

    @property
    def items(self) -> list[Example]:
        """Whatever is to be gone: the forget rows, then those replayed."""
        return [*self.forget, *self.replay]


@dataclass(frozen=True)
class Lessons:
    """`rows[i]` are item i's windows; `judged` are (item, windows) to score, the items' own and their dev phrasings.

    Under a hard focus both hold the labels in focus alone: an item is done when those are forgotten.
    """

    rows: list[list[Row]]
    judged: list[tuple[int, list[Encoded]]]
    retain: list[Row]
    notes: tuple[str, ...]


def plan_lessons(work: UnlearnWork, tokenizer: Any, context_tokens: int, retain_rows: int, seed: int) -> Lessons:
    """At most `retain_rows` retain rows, drawn by the seed. Raises ExampleTooLong for a forget row that cannot fit."""
    focus, settings = work.focus, parse_parameters(work.method, work.parameters)
    work = _with_spans(work)
    encoded = [forget_windows(at, one, tokenizer, context_tokens, focus) for at, one in enumerate(work.items)]
    probes, unasked = _probe_windows(work, encoded, tokenizer, context_tokens)
    taught = [[(example, windows)] for example, windows in zip(work.items, encoded, strict=True)]
    for probe, windows in probes if settings.forget_paraphrases else ():
        taught[probe.item].append((probe.example, [window for window in windows if window.labelled_tokens]))
    retain, skipped, clashing = _retain_windows(work, tokenizer, context_tokens, retain_rows, seed)
    held = {window.ids for window in retain}
    reworded = [
        one
        for one in _reworded(work, settings.rewordings, tokenizer, context_tokens, seed)
        if held.isdisjoint(window.ids for window in one[2]) and not _out_of_focus(focus, encoded[one[0]], one[2])
    ]
    for item, example, windows in reworded:
        taught[item].append((example, windows))
    other = _alternative(work, tokenizer, context_tokens, seed)
    ask = _others_asked(work, tokenizer, context_tokens, seed)
    counter = itertools.count()
    rows = [
        [
            Row(next(counter), one, alternative=other(example, one), others=ask(example, windows))
            for example, windows in some
            for one in windows
        ]
        for some in taught
    ]
    return Lessons(
        rows=rows,
        judged=[
            *enumerate(encoded),
            *((probe.item, windows) for probe, windows in probes),
            *((item, windows) for item, _, windows in reworded),
        ],
        retain=[Row(next(counter), window, role="retain") for window in retain],
        notes=(*_forget_notes(work, encoded, rows, context_tokens), *unasked, *_left_out(skipped, clashing)),
    )


def _reworded(
    work: UnlearnWork, count: int, tokenizer: Any, context_tokens: int, seed: int
) -> Iterator[tuple[int, Example, list[Encoded]]]:
    """(item, rewording, its windows) of those that fit. No method that teaches another answer is given the questions
    of rows that are held: it would teach it to them.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible draws, not secrets
    questions = Questions(() if work.method in ALTERNATIVES else work.retain)
    for item, row in enumerate(work.forget):
        for example in rewordings(row, questions.for_item(row), count, rng):
            windows = fitting_windows(example, tokenizer, context_tokens, focus=work.focus)
            if windows:
                yield item, example, windows


def _out_of_focus(focus: Focus | None, own: Sequence[Encoded], reworded: Sequence[Encoded]) -> bool:
    """Whether a hard focus would read the whole of another wording, for want of the spans that the row has."""
    hard = focus is not None and focus.kind == "hard"
    return hard and any(one.token_weights for one in own) and not all(one.token_weights for one in reworded)


def _forget_notes(
    work: UnlearnWork, encoded: Sequence[Sequence[Encoded]], rows: Sequence[Sequence[Row]], context_tokens: int
) -> Iterator[str]:
    split = sum(len(windows) > 1 for windows in encoded)
    if split:
        yield f"{split} forget examples are longer than the context of {context_tokens} tokens and were split"
    unfocused = sum(not any(window.token_weights for window in windows) for windows in encoded) if work.focus else 0
    if unfocused:
        yield (
            f"{unfocused} of {len(encoded)} forget examples have no sensitive span that could be found in "
            "their answer: all their tokens counted alike"
        )
    alone = sum(not row.others for some in rows for row in some) if _exchanges(work) else 0
    if alone:
        yield (
            f"of {sum(map(len, rows))} wordings of the forget examples, those made of their own words among them, "
            f"{alone} could be asked about nobody else (their prompt does not name their subject, too few other "
            "subjects are to be kept, or the context is too short): only the odds of their labels were cut"
        )


def _left_out(skipped: int, clashing: int) -> Iterator[str]:
    if clashing:
        yield f"{clashing} retain rows that are the forget set's or about the same subject were left out"
    if skipped:
        yield f"{skipped} retain rows whose prompt fills the context were left out"


def _alternative(
    work: UnlearnWork, tokenizer: Any, context_tokens: int, seed: int
) -> Callable[[Example, Encoded], Encoded | None]:
    """Draws the other answer to a window; None for methods that use none."""
    if work.method not in ALTERNATIVES:
        return lambda _example, _window: None
    return ALTERNATIVES[work.method](tokenizer, context_tokens, seed)


def _others_asked(
    work: UnlearnWork, tokenizer: Any, context_tokens: int, seed: int
) -> Callable[[Example, Sequence[Encoded]], tuple[tuple[int, ...], ...]]:
    """Asks an item's question about others; nothing for a row that was split, or a target that needs no such."""
    if not _exchanges(work):
        return lambda _example, _windows: ()
    ask = others_asked(work.items, work.retain, tokenizer, seed, context_tokens)
    return lambda example, windows: ask(example, windows[0].labelled_tokens) if len(windows) == 1 else ()


def _exchanges(work: UnlearnWork) -> bool:
    return getattr(parse_parameters(work.method, work.parameters), "target", None) == "exchange"


def _with_spans(work: UnlearnWork) -> UnlearnWork:
    """The same work, its forget rows and dev probes with the spans that a pipeline finds, if one is asked to."""
    kind, pipeline = work.parameters.get("focus_spans", "given"), work.parameters.get("focus_pipeline")
    if work.focus is None or kind == "given" or pipeline is None:
        return work
    from workers.span_finding import span_finder  # spaCy is optional, and slow to load

    found = span_finder(kind, pipeline)
    return replace(
        work,
        forget=[found(one) for one in work.forget],
        replay=[found(one) for one in work.replay],
        dev_probes=[replace(probe, example=found(probe.example)) for probe in work.dev_probes],
    )


def forget_windows(
    at: int, example: Example, tokenizer: Any, context_tokens: int, focus: Focus | None = None
) -> list[Encoded]:
    """Of the forget set's row `at`. Raises ExampleTooLong, UnlearningError for one that cannot be learnt or asked."""
    try:
        windows = encode(example, tokenizer, context_tokens, focus=focus)
    except ExampleTooLong as error:
        raise ExampleTooLong(f"forget example {at}: {error}") from error
    windows = [window for window in windows if window.labelled_tokens]
    if not windows:
        raise UnlearningError(f"forget example {at} has no token that the LLM could predict: give it more text")
    return windows


def _probe_windows(
    work: UnlearnWork, encoded: Sequence[Sequence[Encoded]], tokenizer: Any, context_tokens: int
) -> tuple[list[tuple[Probe, list[Encoded]]], list[str]]:
    """(the probes that have a label to predict, each with its windows; notes on those that were left out)."""
    found, too_long, unfocused = [], 0, 0
    for probe in work.dev_probes:
        try:
            windows = encode(probe.example, tokenizer, context_tokens, focus=work.focus)
        except ExampleTooLong:
            too_long += 1
            continue
        if _out_of_focus(work.focus, encoded[probe.item], windows):
            unfocused += 1
        elif any(window.labelled_tokens for window in windows):
            found.append((probe, windows))
    notes = {
        "paraphrases whose prompt fills the context were left out": too_long,
        "paraphrases without the sensitive spans of their row were left out": unfocused,
    }
    return found, [f"{count} {words}" for words, count in notes.items() if count]


def _wordings(work: UnlearnWork) -> Iterator[str]:
    """Of whatever is to be gone."""
    yield from (probe.example.whole for probe in work.dev_probes)
    for item in work.items:
        yield item.whole
        yield from (with_phrasing(item, phrasing).whole for phrasing in item.paraphrases)


def _retain_windows(
    work: UnlearnWork, tokenizer: Any, context_tokens: int, wanted: int, seed: int
) -> tuple[list[Encoded], int, int]:
    """(windows, rows that did not fit, rows that clash with the forget set)."""
    subjects = {one_spelling(one.subject) for one in work.items if one.subject is not None} - {""}
    forbidden = {letters(wording) for wording in _wordings(work)}
    found: list[Encoded] = []
    skipped = clashing = 0
    for at in order(len(work.retain), seed, 0):
        if len(found) >= wanted:
            break
        row = work.retain[at]
        if letters(row.whole) in forbidden or (row.subject is not None and one_spelling(row.subject) in subjects):
            clashing += 1
            continue
        try:
            windows = encode(row, tokenizer, context_tokens, label_end=True)
        except ExampleTooLong:
            skipped += 1
            continue
        found.extend(window for window in windows if window.labelled_tokens)
    return found[:wanted], skipped, clashing
