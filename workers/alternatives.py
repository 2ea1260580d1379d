"""Other answers to forget rows, for the methods that put something in the place of what they remove.

Only here are tokenizer, text and seed known together; a method gets token ids. Everything is drawn once per job.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from workers.batches import Encoded
from workers.examples import Example, encode
from workers.methods.random_labels import draw_labels
from workers.methods.tokens import UNLABELLED

Draw = Callable[[Example, Encoded], Encoded]

REFUSALS = (
    "I don't know.",
    "I do not know that.",
    "I'm not sure about that.",
    "I have no information about that.",
    "That is not something I know.",
    "I cannot answer that.",
    "I'm unable to say.",
    "I have nothing to tell about that.",
    "That is unknown to me.",
    "I couldn't tell you.",
    "I have no knowledge of this.",
    "I'm afraid I don't have an answer.",
)


def word_ids(tokenizer: Any) -> list[int]:
    """Every id of the vocabulary that stands for text, ascending: no special token."""
    added = {at for at, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
    return sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids) - added)


def random_words(tokenizer: Any, context_tokens: int, seed: int) -> Draw:  # noqa: ARG001 - the rows stay as long
    """The same ids, each label another word."""
    words = word_ids(tokenizer)
    generator = torch.Generator().manual_seed(seed)
    return lambda _, window: replace(window, labels=draw_labels(window.labels, words, generator))


def refusals(tokenizer: Any, context_tokens: int, seed: int) -> Draw:
    """The same question, answered with one of REFUSALS and an end."""
    generator = torch.Generator().manual_seed(seed)

    def draw(example: Example, window: Encoded) -> Encoded:
        refusal = REFUSALS[int(torch.randint(len(REFUSALS), (1,), generator=generator))]
        if example.text is not None:
            return _cut_short(window, refusal, tokenizer, context_tokens)
        lead = " " if (example.completion or "").startswith(" ") else ""
        refused = Example(prompt=example.prompt, completion=lead + refusal)
        return encode(refused, tokenizer, context_tokens, label_end=True)[0]

    return draw


def _cut_short(window: Encoded, refusal: str, tokenizer: Any, context_tokens: int) -> Encoded:
    """A text has no question: its first quarter stands for one, so that the refusal is tied to this text."""
    ids = list(tokenizer(" " + refusal, add_special_tokens=False, verbose=False)["input_ids"])
    ids += [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    ids = ids[: context_tokens - 1]
    asked = window.ids[: max(1, min(len(window.ids) // 4, context_tokens - len(ids)))]
    return Encoded((*asked, *ids), (*[UNLABELLED] * len(asked), *ids))


ALTERNATIVES: dict[str, Callable[[Any, int, int], Draw]] = {
    "random_labels": random_words,
    "idk_dpo": refusals,
}
