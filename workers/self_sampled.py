"""Rows to keep where nobody gave any: text that the LLM writes by itself before the first step.

Drawn at temperature 1 from the start of a text, so it is a sample of what the LLM would say unasked; a retain term on
it holds the LLM near itself. It knows nothing of the forget set's neighbours in particular: real retain rows hold those
better. Whatever shows the forget set, or anybody else who asked, is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from records.evidence import Kept, said_again
from workers.evaluation.generation import Question, contains, decode
from workers.examples import Example
from workers.words import LETTERS_A_WORD, letters_of, words_of

MOST_TEXTS = 128
TEXT_TOKENS = 64
SAMPLES_A_QUESTION = 8
SHARED_WORDS = 6


@dataclass(frozen=True, slots=True)
class OwnTexts:
    """`clashing` texts showed what is to be forgotten and were left out."""

    examples: tuple[Example, ...]
    clashing: int

    @property
    def note(self) -> str:
        left_out = f"; {self.clashing} more showed what is to go and were left out" if self.clashing else ""
        return (
            f"{len(self.examples)} texts sampled from the LLM itself before unlearning were the retain rows{left_out}"
        )


def own_texts(
    llm: Any,
    tokenizer: Any,
    gone: Sequence[Example],
    count: int,
    context_tokens: int,
    seed: int,
    hashed: Kept | None = None,
) -> OwnTexts:
    """About `count` texts, MOST_TEXTS at most, of at most TEXT_TOKENS tokens; the seed decides them. None shows what is
    `gone`, nor says a run of words that `hashed` has.
    """
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
    texts = [text for text in dict.fromkeys(lines) if letters_of(words_of(text)) > LETTERS_A_WORD]
    told = {run for one in gone for run in _runs(_whole(one))}
    kept = [
        text
        for text in texts
        if told.isdisjoint(_runs(text))
        and not any(_names(text, one) for one in gone)
        and not (hashed and said_again(text, hashed))
    ]
    return OwnTexts(tuple(Example(text=text) for text in kept), len(texts) - len(kept))


def shows(text: str, example: Example) -> bool:
    """Whether the text names the example's subject, answer or a sensitive span, or shares SHARED_WORDS in a row."""
    return _names(text, example) or not _runs(text).isdisjoint(_runs(_whole(example)))


def _names(text: str, example: Example) -> bool:
    telling = [one for one in (example.subject, example.completion, *example.sensitive) if one]
    return any(contains(text, one) for one in telling)


def _whole(example: Example) -> str:
    return example.text if example.text is not None else f"{example.prompt} {example.completion}"


def _runs(text: str) -> set[tuple[str, ...]]:
    """From each word on the fewest words that count as SHARED_WORDS: what two texts have of it, both have here."""
    words = words_of(text)
    found: set[tuple[str, ...]] = set()
    stop = letters = 0
    for start in range(len(words)):
        while letters < SHARED_WORDS * LETTERS_A_WORD and stop < len(words):
            letters += letters_of(words[stop : stop + 1])
            stop += 1
        if letters >= SHARED_WORDS * LETTERS_A_WORD:
            found.add(tuple(words[start:stop]))
        letters -= letters_of(words[start : start + 1])
    return found


def _start(tokenizer: Any) -> int:
    """The id a text begins with; for tokenizers without one, the id that ends the text before."""
    for one in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if one is not None:
            return int(one)
    return min(tokenizer.get_vocab().values())
