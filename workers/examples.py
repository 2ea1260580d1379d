"""Text into token ids and labels. The only place that decides what is labelled.

Prompt and completion are joined as written and tokenised as one text, as a causal LLM meets them; what
the joined text shares with the prompt's own tokens, from the left, is prompt, everything after is
labelled. A token that straddles the boundary therefore belongs to the completion. The end-of-text token
follows a completion, and a text where the tokenizer puts one; it is labelled on request only, since
forgetting must not teach an LLM never to stop. A plain text is labelled from its second token on, because
nothing predicts the first.

Rows longer than the context are split into overlapping windows, each token labelled once; see `split_plan`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from records.examples import ExampleRecord
from workers.batches import Encoded
from workers.errors import ExampleTooLong
from workers.focus import Focus
from workers.methods.tokens import UNLABELLED
from workers.tokenised import token_ids


@dataclass(frozen=True, slots=True)
class Phrasing:
    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a forget set or dataset: prompt and completion, or text."""

    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    subject: str | None = None
    id: str | None = None
    paraphrases: tuple[Phrasing, ...] = ()
    wrong: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    canary: bool = False

    @property
    def whole(self) -> str:
        """All its words, joined as an LLM meets them."""
        return self.text if self.text is not None else f"{self.prompt or ''}{self.completion or ''}"


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to measure with. `item` is the ordinal of its row; phrasing 0 is the row itself, 1… paraphrases."""

    item: int
    phrasing: int
    example: Example


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens start…stop of a row; of them, those from `labelled_from` on are labelled."""

    start: int
    stop: int
    labelled_from: int


def parse(row: Mapping[str, Any]) -> Example:
    """A JSON object into an Example. Raises pydantic.ValidationError, which never repeats the input."""
    record = ExampleRecord.model_validate(dict(row))
    fields = record.model_dump(exclude={"paraphrases"})
    if record.named is None:  # a blank one is no name that a question could be asked without, nor one person's
        fields["subject"] = None
    phrasings = tuple(Phrasing(one.prompt, one.completion) for one in record.paraphrases)
    return Example(**fields, paraphrases=phrasings)


def with_phrasing(example: Example, phrasing: Phrasing) -> Example:
    """The same fact in other words: prompt and completion replaced, the rest kept."""
    return Example(
        prompt=phrasing.prompt,
        completion=phrasing.completion,
        subject=example.subject,
        id=example.id,
        sensitive=example.sensitive,
    )


def split_plan(tokens: int, prompt_tokens: int, context_tokens: int) -> list[Window]:
    """How a row of `tokens`, the first `prompt_tokens` of them prompt, is cut to fit the context.

    Windows count tokens after the prompt, which is repeated in front of each. Every window but the first
    begins with a quarter of its room in tokens the one before had labelled, so that no token is judged
    without left context. Raises ExampleTooLong if the prompt leaves no room.
    """
    room = context_tokens - prompt_tokens
    rest = tokens - prompt_tokens
    if rest <= room:
        return [Window(0, rest, 0)]
    if room < 1:
        raise ExampleTooLong(
            f"the prompt has {prompt_tokens} tokens and the LLM's context is {context_tokens}: "
            "shorten the prompt so that at least one token of the completion fits"
        )
    overlap = room // 4
    windows = [Window(0, room, 0)]
    while windows[-1].stop < rest:
        done = windows[-1].stop
        start = done - overlap
        windows.append(Window(start, min(start + room, rest), done))
    return windows


def describe_split(windows: Sequence[Window], context_tokens: int) -> str:
    """One sentence for the person who sent the row."""
    if len(windows) == 1:
        return f"fits the context of {context_tokens} tokens"
    overlap = windows[0].stop - windows[1].start
    return (
        f"longer than the context of {context_tokens} tokens: split into {len(windows)} "
        f"windows that repeat the "
        f"prompt and overlap by {overlap} tokens; each token is labelled once"
    )


def encode(
    example: Example, tokenizer: Any, context_tokens: int, *, label_end: bool = False, focus: Focus | None = None
) -> list[Encoded]:
    """One window, or several if the row is longer than the context. Raises ExampleTooLong.

    `label_end` labels the end-of-text token at the end: right for retain rows, wrong for forget rows.
    `focus` weighs the labels by the example's sensitive spans; a label of weight 0 is none. Without a labelled token
    inside a span, all labels count and the windows have no `token_weights`.
    """
    ids, prompt_tokens = _joined_ids(example, tokenizer)
    labels = [UNLABELLED] * prompt_tokens + ids[prompt_tokens:]
    weights = () if focus is None else focus.weights(_joined(example), example.sensitive, tokenizer, labels)
    if weights:
        labels = [label if weight else UNLABELLED for label, weight in zip(labels, weights, strict=True)]
    end = tokenizer.eos_token_id
    if example.text is None and end is not None and ids[-1:] != [end]:
        ids, labels = [*ids, end], [*labels, UNLABELLED]
    ended = ids[-1:] == [end]
    if ended:
        labels = [*labels[:-1], end if label_end else UNLABELLED]
    repeated = 0 if example.text is not None else prompt_tokens
    plan = split_plan(len(ids), repeated, context_tokens)
    windows = [_window(ids, labels, weights, repeated, window) for window in plan]
    return [*windows[:-1], replace(windows[-1], ended=ended)]


def fitting_windows(
    example: Example, tokenizer: Any, context_tokens: int, *, label_end: bool = False, focus: Focus | None = None
) -> list[Encoded]:
    """Its windows that have a label to predict; none of a row that does not fit."""
    try:
        windows = encode(example, tokenizer, context_tokens, label_end=label_end, focus=focus)
    except ExampleTooLong:
        return []
    return [window for window in windows if window.labelled_tokens]


def _joined(example: Example) -> str:
    return example.text if example.text is not None else (example.prompt or "") + (example.completion or "")


def _joined_ids(example: Example, tokenizer: Any) -> tuple[list[int], int]:
    """Token ids of the whole row, and how many of them are prompt."""
    if example.text is not None:
        ids = token_ids(example.text, tokenizer)
        return ids, min(1, len(ids))
    ids = token_ids(_joined(example), tokenizer)
    alone = token_ids(example.prompt or "", tokenizer)
    shared = 0
    while shared < min(len(ids), len(alone)) and ids[shared] == alone[shared]:
        shared += 1
    # A completion that adds no token of its own (all of it swallowed by the prompt's last) still has to
    # be labelled.
    return ids, max(0, min(shared, len(ids) - 1))


def _window(
    ids: Sequence[int], labels: Sequence[int], weights: Sequence[float], repeated: int, window: Window
) -> Encoded:
    start, stop, fresh = (repeated + at for at in (window.start, window.stop, window.labelled_from))
    seen = [UNLABELLED] * (fresh - start)
    return Encoded(
        ids=(*ids[:repeated], *ids[start:stop]),
        labels=(*[UNLABELLED] * repeated, *seen, *labels[fresh:stop]),
        token_weights=_weights_of_window(weights, repeated, start, stop),
    )


def _weights_of_window(weights: Sequence[float], repeated: int, start: int, stop: int) -> tuple[float, ...]:
    """As long as the window: the end-of-text token, which no span holds, counts once."""
    kept = (*weights[:repeated], *weights[start:stop]) if weights else ()
    return (*kept, *[1.0] * (repeated + stop - start - len(kept))) if weights else ()
