"""How likely would an LLM find each token of an answer that it never met? Estimated from rows that are held.

    p_k(v | c) = (n(c, v) + d(c)·p_{k-1}(v | c')) / (n(c) + d(c)),   p_{-1} = 1/V

the interpolation of Witten and Bell (1991): n counts, d(c) is how many different tokens followed the context c of k
tokens, c' is c without its first. Then ℓ = s·ln p_3(v | c), s such that the control's rows get on average what the LLM
itself gives them.

On LLMs taught and not taught the same 50 answers, an answer's mean ℓ and the mean log-probability that the untaught
LLM gives it correlate by 0.8, a single token's by 0.6 (docs/decisions/0020). One level for all answers correlates by
nothing: half of the never-trained ones lie beyond it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from workers.batches import Encoded
from workers.methods.tokens import UNLABELLED

CONTEXT_TOKENS = 3
FEWEST_HELD = 20
FEWEST_CONTROL = 5


class TokenCounts:
    """p_3 of token ids, from every position of some rows."""

    def __init__(self, rows: Iterable[Sequence[int]], vocabulary: int) -> None:
        self._followed: list[defaultdict[tuple[int, ...], Counter[int]]] = [
            defaultdict(Counter) for _ in range(CONTEXT_TOKENS + 1)
        ]
        self._vocabulary = vocabulary
        self._totals: dict[tuple[int, ...], int] = {}
        for ids in rows:
            for at, token in enumerate(ids):
                for length in range(min(at, CONTEXT_TOKENS) + 1):
                    self._followed[length][tuple(ids[at - length : at])][token] += 1

    def probability(self, token: int, before: Sequence[int]) -> float:
        estimate = 1.0 / self._vocabulary
        for length in range(min(len(before), CONTEXT_TOKENS) + 1):
            context = tuple(before[len(before) - length :])
            followers = self._followed[length].get(context)
            if followers:  # a context never seen says nothing: the shorter one's estimate stands
                different = len(followers)
                estimate = (followers[token] + different * estimate) / (self._total(context) + different)
        return estimate

    def _total(self, context: tuple[int, ...]) -> int:
        """n(c), summed once: after a common token, or none, tens of thousands of others follow."""
        if context not in self._totals:
            self._totals[context] = self._followed[len(context)][context].total()
        return self._totals[context]

    def log_probabilities(self, window: Encoded) -> list[float]:
        """Aligned with its labels; 0 where there is none, or nothing before it."""
        return [
            math.log(self.probability(label, window.ids[max(0, at - CONTEXT_TOKENS) : at]))
            if at and label != UNLABELLED
            else 0.0
            for at, label in enumerate(window.labels)
        ]


def with_levels(window: Encoded, counts: TokenCounts, scale: float) -> Encoded:
    """The window with ℓ of each of its labels."""
    return replace(window, token_levels=tuple(scale * one for one in counts.log_probabilities(window)))


def scale_of(counts: TokenCounts, control: Sequence[Sequence[Encoded]], nlls: Sequence[float]) -> float | None:
    """s: the mean of what the LLM makes of each control row, in nats a token, over the mean of what the counts do.

    None of so few rows that it would say nothing.
    """
    if len(control) < FEWEST_CONTROL:
        return None
    estimated = math.fsum(_mean_nll(windows, counts) for windows in control)
    return math.fsum(nlls) / estimated if estimated > 0.0 else None


def own_level(windows: Sequence[Encoded]) -> float | None:
    """exp of the mean ℓ of an item's labels: what its token probability would be; None without levels."""
    found = [
        level
        for window in windows
        for level, label in zip(window.token_levels[1:], window.labels[1:], strict=False)
        if label != UNLABELLED
    ]
    return math.exp(math.fsum(found) / len(found)) if found else None


def _mean_nll(windows: Sequence[Encoded], counts: TokenCounts) -> float:
    found = math.fsum(one for window in windows for one in counts.log_probabilities(window))
    return -found / sum(window.labelled_tokens for window in windows)
