"""Other wordings of a forget example, made of its own words: what a request's paraphrases cannot all name.

In turn: words left out of the question; out of question and answer; another example's question before the answer. An
LLM that knows a sentence by heart goes on from any part of it, so that a row forgotten in its own wording alone comes
back in another.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice

from workers.examples import Example
from workers.words import pieces

KEPT_OF_QUESTION = (0.3, 0.8)
KEPT_OF_ANSWER = 0.75


class Questions:
    """Those of the rows that are held, without the ones that such a row answers in the item's own words.

    Where several people share an answer, such a question before it would be a row that is held: true, and unlearnt in
    one step and held in the next.
    """

    def __init__(self, held: Sequence[Example]) -> None:
        self._all = [row.prompt for row in held if row.prompt]
        self._answered_so: defaultdict[str, set[str]] = defaultdict(set)
        for row in held:
            if row.prompt:
                self._answered_so[_said(row.completion)].add(row.prompt)

    def for_item(self, item: Example) -> list[str]:
        """In the order of the rows."""
        true = self._answered_so.get(_said(item.completion), set())
        return [one for one in self._all if one not in true] if true else self._all


def rewordings(example: Example, questions: Sequence[str], count: int, rng: random.Random) -> Iterator[Example]:
    """`count` of them, fewer where one is the example itself; none of a text without a question.

    `questions` are of others who are not answered so: see `Questions`.
    """
    if example.prompt is None or example.completion is None:
        return
    for kind in islice(cycle(("question", "both", "others")), count):
        prompt, completion = example.prompt, example.completion
        if kind == "others":
            prompt = rng.choice(questions) if questions else prompt
        else:
            prompt = thinned(prompt, rng.uniform(*KEPT_OF_QUESTION), rng)
        if kind == "both":
            completion = thinned(completion, KEPT_OF_ANSWER, rng)
        if (prompt, completion) != (example.prompt, example.completion):
            yield replace(example, prompt=prompt, completion=completion, paraphrases=())


def _said(answer: str | None) -> str:
    """The same for answers that differ in white space or capitals alone."""
    return " ".join((answer or "").casefold().split())


def thinned(words: str, kept: float, rng: random.Random) -> str:
    """Each word stays with probability `kept`, but neither all nor none of several; space at either end stays."""
    inner = words.strip()
    every = pieces(inner)
    if len(every) < 2:
        return words
    start = words.index(inner)
    left_out = rng.randrange(len(every))
    chosen = [word for at, word in enumerate(every) if at != left_out and rng.random() < kept] or [every[left_out]]
    return words[:start] + "".join(chosen).lstrip() + words[start + len(inner) :]
