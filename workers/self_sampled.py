"""Rows to keep where nobody gave any: text that the LLM writes by itself before the first step.

Drawn at temperature 1 from the start of a text, so it is a sample of what the LLM would say unasked; a retain term on
it holds the LLM near itself. It knows nothing of the forget set's neighbours in particular: real retain rows hold those
better. Whatever shows the forget set is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.evaluation.generation import Question, contains, decode
from workers.examples import Example

MOST_TEXTS = 128
TEXT_TOKENS = 64
SAMPLES_A_QUESTION = 8
SHARED_WORDS = 6


@dataclass(frozen=True, slots=True)
class OwnTexts:
    """`clashing` texts showed the forget set and were left out."""

    examples: tuple[Example, ...]
    clashing: int

    @property
    def note(self) -> str:
        left_out = f"; {self.clashing} more showed the forget set and were left out" if self.clashing else ""
        return (
            f"{len(self.examples)} texts sampled from the LLM itself before unlearning were the retain rows{left_out}"
        )


def own_texts(
    llm: Any, tokenizer: Any, forget: Sequence[Example], count: int, context_tokens: int, seed: int
) -> OwnTexts:
    """About `count` texts, MOST_TEXTS at most, of at most TEXT_TOKENS tokens; the seed decides them."""
    questions = -(-min(count, MOST_TEXTS) // SAMPLES_A_QUESTION)
    start = _start(tokenizer)
    answers = decode(
        llm,
        [Question((start,), min(TEXT_TOKENS, context_tokens - 1), seed * 1_000_003 + at) for at in range(questions)],
        samples=SAMPLES_A_QUESTION,
        stop_ids=[] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id],
        pad_id=start,
    )
    lines = [tokenizer.decode(line, skip_special_tokens=True).strip() for one in answers for line in one.sampled]
    texts = [text for text in dict.fromkeys(lines) if len(text.split()) > 1]
    kept = [text for text in texts if not any(shows(text, one) for one in forget)]
    return OwnTexts(tuple(Example(text=text) for text in kept), len(texts) - len(kept))


def shows(text: str, example: Example) -> bool:
    """Whether the text names the example's subject, answer or a sensitive span, or shares SHARED_WORDS in a row."""
    telling = [one for one in (example.subject, example.completion, *example.sensitive) if one]
    if any(contains(text, one) for one in telling):
        return True
    whole = example.text if example.text is not None else f"{example.prompt} {example.completion}"
    return bool(_runs(text) & _runs(whole))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[at : at + SHARED_WORDS]) for at in range(len(words) - SHARED_WORDS + 1)}


def _start(tokenizer: Any) -> int:
    """The id a text begins with; for tokenizers without one, the id that ends the text before."""
    for one in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if one is not None:
            return int(one)
    return min(tokenizer.get_vocab().values())
