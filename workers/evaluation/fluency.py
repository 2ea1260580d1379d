"""Are the answers still language? Counts over generated token ids, in which no likelihood can be gamed.

    distinct-n      different n-grams / n-grams, 1 if none repeats            (Li et al., NAACL 2016, arXiv:1510.03055)
    repetition      1 - distinct-n of one answer, rep-n                   (Welleck et al., ICLR 2020, arXiv:1908.04319)
    token entropy   -Σ_w f_w log f_w / log T, f_w the share of word w         (Yuan et al., ICLR 2025, arXiv:2410.08109)
                    among the T tokens of an answer: 1 if all differ

All three depend on the length: compare answers to the same questions, before and after. A low perplexity says
nothing: an LLM that repeats one word for ever has the lowest.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from workers.evaluation.memorisation import ngrams

REPEATED_N = 4


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over the answers, but `distinct` counts them as one text: answers all alike are not diverse."""

    answers: int
    empty: int
    mean_tokens: float
    repetition: float
    distinct: float
    token_entropy: float


def distinct_n(answers: Sequence[Sequence[int]], n: int) -> float:
    """Over all answers together, none crossing from one into the next; 1 if no answer has n tokens."""
    found = [one for answer in answers for one in ngrams(answer, n)]
    return len(set(found)) / len(found) if found else 1.0


def repetition(answer: Sequence[int], n: int = REPEATED_N) -> float:
    """Share of an answer's n-grams that stood in it before: 0 none, towards 1 a loop."""
    return 1.0 - distinct_n([answer], n)


def token_entropy(answer: Sequence[int]) -> float:
    """Normalised, from 0, one word over and over, to 1, no word twice. A single token repeats nothing: 1."""
    tokens = len(answer)
    if tokens < 1:
        raise ValueError("an empty answer has no entropy")
    if tokens == 1:
        return 1.0
    shares = [count / tokens for count in Counter(answer).values()]
    return abs(math.fsum(share * math.log(share) for share in shares)) / math.log(tokens)


def quality(answers: Sequence[Sequence[int]], n: int = REPEATED_N) -> Quality:
    """Of at least one answer. Empty ones are counted; repetition and entropy are means over the others, 0 of none."""
    if not answers:
        raise ValueError("the quality of no answers is not defined")
    said = [answer for answer in answers if len(answer)]
    return Quality(
        answers=len(answers),
        empty=len(answers) - len(said),
        mean_tokens=sum(len(answer) for answer in answers) / len(answers),
        repetition=math.fsum(repetition(one, n) for one in said) / max(1, len(said)),
        distinct=distinct_n(answers, n),
        token_entropy=math.fsum(token_entropy(one) for one in said) / max(1, len(said)),
    )
