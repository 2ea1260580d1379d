"""How much of an answer can be had word for word?

Extraction strength is `scoring.extraction_strength`; the rest, over token ids and their log-probabilities:

    exact memorisation     (1/T) Σ_t 1[argmax_v p(v | x, y_<t) = y_t]                 (Tirumala et al. 2022; Jang's MA)
    extraction likelihood  EL_n = mean over prefix lengths t of Overlap_n(f(x_<t), x_≥t)  (Jang et al., ACL 2023)
    verbatim run           longest run of tokens that stands in both, in tokens
    (n, p)-extraction      1 - (1 - p_z)^n ≥ p, p_z = Π_t q(y_t)              (Hayes et al. 2025, arXiv:2410.19482)

A text labelled from its second token on has T - 1 labels: exact memorisation of them is Jang's MA of the text.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np


def exact_memorisation(hits: Sequence[bool]) -> float:
    """Share of the T ≥ 1 tokens whose argmax is the label. A never-trained LLM does not score 0: compare with one."""
    if not hits:
        raise ValueError("exact memorisation needs at least one token")
    return sum(hits) / len(hits)


def ngrams(ids: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """All max(0, len - n + 1) of them, repeated ones repeated."""
    if n < 1:
        raise ValueError(f"an n-gram has at least one token, not {n}")
    return [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]


def overlap(generated: Sequence[int], true: Sequence[int], n: int) -> float:
    """Overlap_n(a, b): share of the n-grams of `generated`, repeats counted, that stand in `true`; 0 if it has none."""
    found, wanted = ngrams(generated, n), set(ngrams(true, n))
    return sum(one in wanted for one in found) / len(found) if found else 0.0


def prefix_lengths(tokens: int, n: int, at_most: int) -> list[int]:
    """The lengths t = 1 … T - n that EL_n averages over, or `at_most` of them, evenly spread, both ends included.

    Each costs one generation of T - t tokens. Raises ValueError unless T > n.
    """
    if tokens <= n or at_most < 1:
        raise ValueError(f"EL_{n} needs more than {n} tokens and one prefix or more, not {tokens} and {at_most}")
    last = tokens - n
    if at_most >= last:
        return list(range(1, last + 1))
    if at_most == 1:
        return [(1 + last) // 2]
    return [1 + round(step * (last - 1) / (at_most - 1)) for step in range(at_most)]


def extraction_likelihood(ids: Sequence[int], continuations: Mapping[int, Sequence[int]], n: int) -> float:
    """EL_n of a text from the greedy continuation of each prefix length; 0 nothing, 1 all of it word for word.

    A continuation is read up to the length of what is left of the text: more would only dilute it. One that stops
    before n tokens counts as no overlap.
    """
    if not continuations or not all(0 <= t <= len(ids) - n for t in continuations):
        raise ValueError(f"EL_{n} of {len(ids)} tokens needs prefixes that leave {n} or more")
    parts = [overlap(found[: len(ids) - t], ids[t:], n) for t, found in continuations.items()]
    return math.fsum(parts) / len(parts)


def longest_verbatim_run(generated: Sequence[int], source: Sequence[int]) -> int:
    """Length in tokens of the longest contiguous run that stands in both, anywhere. O(len·len), in NumPy rows.

    run(i, j) = 1 + run(i - 1, j - 1) where token i of one is token j of the other, else 0.
    """
    source_S = np.asarray(source, dtype=np.int64)
    run_S = np.zeros(len(source_S) + 1, dtype=np.int64)
    longest = 0
    for token in generated:
        run_S[1:] = np.where(source_S == token, run_S[:-1] + 1, 0)
        longest = max(longest, int(run_S.max()))
    return longest


def extraction_probability(log_probabilities: Sequence[float], queries: int) -> float:
    """1 - (1 - p_z)^n: the chance that one or more of n independent answers is this one, word for word.

    `log_probabilities` are ln q(y_t) under the decoding in use; one of -inf makes the answer impossible.
    """
    if queries < 1:
        raise ValueError(f"at least one query, not {queries}")
    p_z = _answer_probability(log_probabilities)
    return 1.0 if p_z == 1.0 else -math.expm1(queries * math.log1p(-p_z))


def queries_needed(log_probabilities: Sequence[float], probability: float = 0.5) -> float:
    """Smallest n with 1 - (1 - p_z)^n ≥ p: a whole number as a float, infinite where p_z is 0 or rounds to it."""
    if not 0.0 < probability < 1.0:
        raise ValueError(f"the probability must be between 0 and 1, not {probability}")
    p_z = _answer_probability(log_probabilities)
    if p_z == 0.0:
        return math.inf
    if p_z == 1.0:
        return 1.0
    exact = math.log1p(-probability) / math.log1p(-p_z)
    # A whole number must not become the next one by round-off.
    return max(1.0, float(math.ceil(exact * (1.0 - 1e-12)))) if exact < 2.0**53 else exact


def _answer_probability(log_probabilities: Sequence[float]) -> float:
    if not log_probabilities:
        raise ValueError("an answer has at least one token")
    return min(1.0, math.exp(math.fsum(log_probabilities)))
