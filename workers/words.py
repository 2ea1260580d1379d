"""Texts cut into words, in scripts with spaces between them and without.

A Han character counts as a word, LETTERS_A_WORD letters of Thai, Lao, Khmer, Burmese or kana as one; all else is cut
at its spaces alone.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from workers.evaluation.whole_words import ideograph, spelled_on

LETTERS_A_WORD = 3


def words_of(text: str) -> list[str]:
    """Lower case, as they are spaced; of scripts without spaces, character by character and without punctuation."""
    return [word for spaced in text.lower().split() for word in _apart(spaced)]


def letters_of(words: Sequence[str]) -> int:
    """LETTERS_A_WORD for each word, 1 for each that is a letter of a script without spaces."""
    return sum(1 if len(word) == 1 and spelled_on(word) else LETTERS_A_WORD for word in words)


def pieces(text: str) -> list[str]:
    """Words as they stand, each but the first with the space that parts it from the one before: joined, the text with
    single spaces.
    """
    found = [piece for spaced in text.split() for piece in _with_space(spaced)]
    return [found[0].removeprefix(" "), *found[1:]] if found else []


def _with_space(spaced: str) -> Iterator[str]:
    space = " "
    for kind, some in groupby(spaced, _kind):
        run = "".join(some)
        size = {"ideograph": 1, "spelled": LETTERS_A_WORD}.get(kind, len(run))
        for start in range(0, len(run), size):
            yield space + run[start : start + size]
            space = ""


def _apart(spaced: str) -> Iterator[str]:
    if spaced.isascii() or not any(map(_kind, spaced)):
        yield spaced
        return
    for kind, some in groupby(spaced, _kind):
        run = "".join(some)
        yield from run if kind else re.findall(r"\w+", run)


def _kind(character: str) -> str:
    """Empty for a character of words that have spaces between them."""
    if character.isascii():
        return ""
    return "ideograph" if ideograph(character) else "spelled" if spelled_on(character) else ""
