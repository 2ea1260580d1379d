"""Whom else could the same be asked about? A question with its subject's name exchanged for another's.

The others are subjects of the retain rows, those alone who are asked something in the same words as the subject if
there are enough. Which of them a question is asked about is drawn by seed, question and name, so that it stays when
others come or go. Their names are in the job's memory alone.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from workers.examples import Example
from workers.methods.exchange import LONGER_TOKENS
from workers.tokenised import token_ids

OTHERS = 5
FEWEST_OTHERS = 3  # of fewer, one answer would be taught nearly whole
NOBODY = "\0"

# (example, how many tokens of its answer count) -> the others' questions
Ask = Callable[[Example, int], tuple[tuple[int, ...], ...]]


def nobody(example: Example) -> str | None:
    """The prompt with NOBODY for its subject, as whole words if it stands so anywhere; None if it names none."""
    if example.prompt is None or not example.subject:
        return None
    name = re.escape(example.subject)
    for pattern in (rf"(?<!\w){name}(?!\w)", name):
        prompt, count = re.subn(pattern, lambda _: NOBODY, example.prompt)
        if count:
            return prompt
    return None


def others_asked(
    items: Iterable[Example], retain: Iterable[Example], tokenizer: Any, seed: int, context_tokens: int
) -> Ask:
    """Gives the token ids of an item's prompt about OTHERS others, less those that leave too little of the context for
    an answer; nothing if it names no subject, or too few are left.
    """
    asked = _prompts(items)
    others = {name: prompts for name, prompts in _prompts(retain).items() if name not in asked}

    def ask(example: Example, labelled_tokens: int) -> tuple[tuple[int, ...], ...]:
        prompt = nobody(example)
        if prompt is None or example.subject is None:
            return ()
        own = asked.get(example.subject, set())
        alike = [name for name, prompts in others.items() if prompts & own]
        chosen = alike if len(alike) >= FEWEST_OTHERS else list(others)
        if len(chosen) < FEWEST_OTHERS:
            return ()
        drawn = sorted(chosen, key=lambda name: hashlib.sha256(f"{seed} {prompt} {name}".encode()).digest())[:OTHERS]
        questions = [_question(prompt.replace(NOBODY, name), tokenizer) for name in drawn]
        room = context_tokens - labelled_tokens - LONGER_TOKENS
        fitting = tuple(ids for ids in questions if len(ids) <= room)
        return fitting if len(fitting) >= FEWEST_OTHERS else ()

    return ask


def _prompts(examples: Iterable[Example]) -> dict[str, set[str]]:
    """By subject, what is asked of it, the name taken out."""
    found: dict[str, set[str]] = {}
    for one in examples:
        prompt = nobody(one)
        if prompt is not None and one.subject is not None:
            found.setdefault(one.subject, set()).add(prompt)
    return found


def _question(prompt: str, tokenizer: Any) -> tuple[int, ...]:
    """As `workers.examples.encode` reads a prompt, without an end."""
    ids = token_ids(prompt, tokenizer)
    return tuple(ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids)
