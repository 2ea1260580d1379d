"""UnDIAL's focus (Dong et al., NAACL 2025, arXiv:2402.10052, section on focused unlearning): which labels matter most.

    L = Σ_n w_n·CE_n / Σ_n w_n,   hard: w_n = 1 inside a sensitive span, 0 outside;   soft: `weight` inside, 1 outside

Spans are found in the text and tokens by their offsets in it, so every occurrence counts, however it is tokenised. A
token that is partly inside is inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workers.evaluation.whole_words import anywhere, whole_words
from workers.methods.tokens import UNLABELLED
from workers.tokenised import token_places

FOCUS_WEIGHT = 10.0


@dataclass(frozen=True, slots=True)
class Focus:
    """`weight` is read when `kind` is soft."""

    kind: Literal["hard", "soft"]
    weight: float = FOCUS_WEIGHT

    def weights(self, text: str, spans: Sequence[str], tokenizer: Any, labels: Sequence[int]) -> tuple[float, ...]:
        """One per label; empty if no label that could be predicted lies inside a span."""
        inside = tokens_inside(text, spans, tokenizer) if spans else []
        if not any(one and label != UNLABELLED for one, label in list(zip(inside, labels, strict=False))[1:]):
            return ()
        high, low = (1.0, 0.0) if self.kind == "hard" else (self.weight, 1.0)
        return tuple(high if one else low for one in inside)


def tokens_inside(text: str, spans: Sequence[str], tokenizer: Any) -> list[bool]:
    """For each token of the text, special ones included; empty for a tokenizer that does not tell offsets."""
    if not getattr(tokenizer, "is_fast", False):
        return []
    inside = bytearray(len(text))  # a text may have as many places as tokens, too many to compare each with each
    for start, stop in (place for span in spans for place in occurrences(text, span)):
        inside[start:stop] = b"\1" * (stop - start)
    return [inside.find(1, start, stop) >= 0 for start, stop in token_places(text, tokenizer)]


def occurrences(text: str, span: str) -> list[tuple[int, int]]:
    """(start, stop) in characters, wherever the span stands as whole words, however they are spaced.

    If it never does, wherever it stands at all: many languages bend a word or write it onto another.
    """
    return whole_words(text, span) or anywhere(text, span)
