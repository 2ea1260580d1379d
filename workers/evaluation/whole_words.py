"""Where does a text hold a span as whole words, in whatever script?

A word goes on from one character to the next where both are letters, digits or marks of scripts that put spaces between
words. Some put none: a span begins and ends in them wherever it stands, and so does a telephone number beside them.
Hangul has spaces, but particles are written onto whatever they follow: 김철수는 names 김철수.
"""

import re
import unicodedata

# A character's Unicode name begins with its script's, but for a few words such as "halfwidth" and "combining".
_IDEOGRAPHS = re.compile(r"\b(CJK|IDEOGRAPH\w*)\b")
_SPELLED = re.compile(r"\b(HIRAGANA|KATAKANA|THAI|LAO|KHMER|MYANMAR)\b")


def whole_words(text: str, span: str) -> list[tuple[int, int]]:
    """Those of `anywhere` at which no word goes on over an end."""
    return [(start, stop) for start, stop in anywhere(text, span) if not _cut(text, start, stop)]


def anywhere(text: str, span: str) -> list[tuple[int, int]]:
    """(start, stop) in characters of each place, however its words are spaced; none of an empty span."""
    words = r"\s+".join(re.escape(word) for word in span.split())
    return [one.span(1) for one in re.finditer(f"(?=({words}))", text)] if words else []


def ideograph(character: str) -> bool:
    """Whether it is one of the characters of which each is a word or most of one: Han."""
    return _of_words(character) and bool(_IDEOGRAPHS.search(unicodedata.name(character, "")))


def spelled_on(character: str) -> bool:
    """Whether it is a letter or mark of a script that spells its words and puts no spaces between them."""
    return _of_words(character) and bool(_SPELLED.search(unicodedata.name(character, "")))


def _cut(text: str, start: int, stop: int) -> bool:
    before, first, last, after = text[max(0, start - 1) : start], text[start], text[stop - 1], text[stop : stop + 1]
    begun = _in_word(before) and _in_word(first) and _is_hangul(before) == _is_hangul(first)
    goes_on = _in_word(last) and _in_word(after) and not (_is_hangul(last) or _is_hangul(after))
    return begun or goes_on


def _in_word(character: str) -> bool:
    """Whether a word may go on from it or to it; digits are in a number, whatever their script."""
    if not character or unicodedata.category(character) == "Nd":
        return bool(character)
    return _of_words(character) and not ideograph(character) and not spelled_on(character)


def _of_words(character: str) -> bool:
    """A vowel sign of Devanagari, say, is a mark (M), and Python takes marks for no part of a word."""
    return character == "_" or character.isalnum() or unicodedata.category(character)[0] == "M"


def _is_hangul(character: str) -> bool:
    return "HANGUL" in unicodedata.name(character, "")
