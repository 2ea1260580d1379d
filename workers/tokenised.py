"""A text as token ids, and where in it they are: special tokens as the tokenizer adds them, which begins a text once.

What a chat template has made begins with the token that many tokenizers put before every text. Two of them are what
nobody asks the LLM with.
"""

from collections.abc import Sequence
from typing import Any


def token_ids(text: str, tokenizer: Any) -> list[int]:
    """However many there are: the tokenizer's own limit of length is not looked at."""
    ids = list(tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"])
    return ids[_begun_twice(ids, text, tokenizer) :]


def token_places(text: str, tokenizer: Any) -> list[tuple[int, int]]:
    """(start, stop) in characters of each of `token_ids`. For fast tokenizers alone."""
    read = tokenizer(text, add_special_tokens=True, verbose=False, return_offsets_mapping=True)
    return list(read["offset_mapping"])[_begun_twice(read["input_ids"], text, tokenizer) :]


def _begun_twice(ids: Sequence[int], text: str, tokenizer: Any) -> bool:
    """Once by the text and once by the tokenizer."""
    twice = [tokenizer.bos_token_id] * 2
    return list(ids[:2]) == twice and tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][:2] != twice
