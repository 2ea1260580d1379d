"""How is an LLM asked for what should be gone, and what does its answer give away? Prompts, continuations, matches."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.batches import Encoded
from workers.evaluation.generation import Answers, Question, contains
from workers.evaluation.memorisation import extraction_likelihood, prefix_lengths
from workers.evaluation.token_statistics import TokenStatistics
from workers.examples import Example
from workers.methods.tokens import UNLABELLED

EXTRA_TOKENS = 8
VERBATIM_TOKENS = 50
LIKELIHOOD_N = 10


@dataclass(frozen=True, slots=True)
class Sought:
    """A prompt, and the T ids of the answer that must not follow it; of each, given those before it, whether it is the
    argmax, and its natural log-probability.
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    hits: tuple[bool, ...]
    log_probabilities: tuple[float, ...]

    def question(self, context_tokens: int, seed: int) -> Question:
        """Room for the answer and a few words around it, as far as the context goes."""
        room = min(len(self.answer_ids) + EXTRA_TOKENS, context_tokens - len(self.prompt_ids))
        return Question(self.prompt_ids, max(1, room), seed)

    def sampled_hits_expected(self, samples: int) -> float:
        """At most so many of the samples hold the answer: n·(places where it may begin)·Π_{t≥2} p_t.

        Wherever an answer begins, its first token is taken to be certain there and the others as likely as here.
        """
        return samples * (1 + EXTRA_TOKENS) * math.exp(math.fsum(self.log_probabilities[1:]))

    def continuation_questions(self, at_most: int, n: int = LIKELIHOOD_N) -> dict[int, Question]:
        """The questions whose greedy answers EL_n needs, by how many tokens of the answer they give away.

        From a prefix on, an LLM repeats the answer up to its next miss, which the teacher-forced pass has told. So what
        follows need be asked for from the misses on only, and of prefixes with the same next miss once.
        """
        asked = (self._next_miss(given) for given in self._prefixes(at_most, n))
        return {
            miss: Question((*self.prompt_ids, *self.answer_ids[:miss]), len(self.answer_ids) - miss)
            for miss in asked
            if miss is not None
        }

    def likelihood(self, continued: Mapping[int, Sequence[int]], at_most: int, n: int = LIKELIHOOD_N) -> float | None:
        """EL_n from the answers to `continuation_questions`; None if the answer is too short to leave an n-gram."""
        found = {}
        for given in self._prefixes(at_most, n):
            miss = self._next_miss(given)
            rest = () if miss is None else continued[miss]
            found[given] = (*self.answer_ids[given:miss], *rest)
        return extraction_likelihood(self.answer_ids, found, n) if found else None

    def _prefixes(self, at_most: int, n: int) -> list[int]:
        tokens = len(self.answer_ids)
        return prefix_lengths(tokens, n, at_most) if tokens > n and at_most else []

    def _next_miss(self, given: int) -> int | None:
        return next((at for at in range(given, len(self.hits)) if not self.hits[at]), None)


def sought(example: Example, window: Encoded, tokens: TokenStatistics) -> Sought:
    """What to ask for an example, from its first window and what was read of its labels. A text is cut in half."""
    labelled = [at for at, label in enumerate(window.labels) if label != UNLABELLED and at > 0]
    start, stop = labelled[0], labelled[-1] + 1
    if example.text is not None:
        start = max(1, (start + stop) // 2)
        stop = min(stop, start + VERBATIM_TOKENS)
    read = slice(start - labelled[0], stop - labelled[0])
    return Sought(window.ids[:start], window.ids[start:stop], tokens.hits[read], tokens.log_probabilities[read])


@dataclass(frozen=True, slots=True)
class Secrets:
    """Words that must not be said: the answer as its tokens spell it and as it was written, spans not asked with."""

    answer: str
    completion: str | None = None
    spans: tuple[str, ...] = ()

    def leak_in(self, text: str) -> bool:
        return any(contains(text, one) for one in (self.answer, self.completion or "", *self.spans))


def secrets_of(example: Example, answer_ids: Sequence[int], tokenizer: Any) -> Secrets:
    answer = tokenizer.decode(list(answer_ids), skip_special_tokens=True)
    spans = tuple(span for span in example.sensitive if not contains(example.prompt or "", span))
    return Secrets(answer, example.completion, spans)


def leaks(secrets: Secrets, answers: Answers, tokenizer: Any) -> tuple[bool, int | None]:
    """(does the greedy answer leak, how many of the sampled ones do; None if there are none)."""
    greedy, *sampled = (
        secrets.leak_in(tokenizer.decode(list(ids), skip_special_tokens=True))
        for ids in (answers.greedy, *answers.sampled)
    )
    return greedy, sum(sampled) if sampled else None
