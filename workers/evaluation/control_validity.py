"""Can the control stand for what the forget set would be, had it never been trained on?

It cannot if parts of it were trained on, if it is of another kind, or if it is too small. Three looks, none of which
needs the LLM again:

    overlap    an n-gram of 13 tokens (Brown et al. 2020, appendix C), or the whole of a shorter item, was trained on
    outliers   an item known so much better than the others that chance explains it once in 1/alpha controls:
               deletion residuals r_i √((n-p-1)/(SSE(1-h_i) - r_i²)) against t_{n-p-1} at alpha/n
    kind       length, type of answer, an ignorant LLM's score differ from the forget set's (exchangeability.py)

An ignorant LLM that tells forget from control (kind) makes every comparison after unlearning worthless; most often the
control is of another time or source. Outliers hide one another when many items leaked; the overlap finds those.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from workers.evaluation.quantiles import t_quantile
from workers.evaluation.variance_components import column

GRAM_TOKENS = 13


def overlap(control: Sequence[Sequence[int]], trained: Iterable[Sequence[int]], n: int = GRAM_TOKENS) -> list[int]:
    """Ordinals of control items that share n tokens in a row with a trained one; `trained` is read once."""
    wanted: dict[tuple[int, ...], set[int]] = {}
    for at, ids in enumerate(control):
        for gram in _grams(ids, n):
            wanted.setdefault(gram, set()).add(at)
    found: set[int] = set()
    for ids in trained:
        for gram in _grams(ids, n):
            found |= wanted.get(gram, set())
    return sorted(found)


def _grams(ids: Sequence[int], n: int) -> Iterable[tuple[int, ...]]:
    """A shorter sequence is one gram, and so equals only another whole one."""
    return (tuple(ids[at : at + n]) for at in range(max(1, len(ids) - n + 1)))


def outliers(scores: ArrayLike, base: ArrayLike | None, alpha: float = 0.05) -> list[int]:
    """Ordinals of control items whose score, of which more is better known, lies too far above the others' line."""
    y = column(scores, np.size(scores), "scores")
    ones = np.ones(len(y))
    design = ones[:, None] if base is None else np.column_stack([ones, column(base, len(y), "base")])
    rank = int(np.linalg.matrix_rank(design))
    degrees = len(y) - rank - 1
    if degrees < 1:
        raise ValueError(f"scores are too few to tell an outlier: {len(y)}")
    hat = design @ np.linalg.pinv(design)
    residual = y - hat @ y
    without_it = float((residual**2).sum()) * (1 - np.diag(hat)) - residual**2
    limit = t_quantile(1 - alpha / len(y), degrees)
    round_off = 1e-9 * (1.0 + float(np.abs(y).max()))
    above = residual * degrees**0.5 > np.maximum(limit * np.sqrt(np.maximum(without_it, 0.0)), round_off)
    return [int(at) for at in np.flatnonzero(above)]
