"""People no LLM was ever taught: what chance makes of their scores, and how often chance may reject."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class People:
    before: Floats
    after: Floats
    base: Floats
    subjects: NDArray[np.int64]

    @property
    def now(self) -> tuple[Floats, Floats, NDArray[np.int64]]:
        return self.after, self.base, self.subjects


def people(rng: np.random.Generator, subjects: int, items: int, *, known: float = 0.0) -> People:
    """Scores that share a difficulty (SD 0.6 between and 0.6 within people) and differ by an effect of the person (SD
    0.1) and noise (SD 0.3). `known` is what training had added before unlearning.
    """
    whom = np.repeat(np.arange(subjects), items)
    base = 0.6 * rng.normal(size=subjects)[whom] + 0.6 * rng.normal(size=len(whom))
    person = 0.1 * rng.normal(size=subjects)[whom]
    before, after = (0.5 + 0.8 * base + person + 0.3 * rng.normal(size=len(whom)) for _ in range(2))
    return People(before + known, after, base, whom)


def allowed(draws: int, rate: float) -> float:
    """Rejections a true rate exceeds once in a thousand times."""
    return draws * rate + NormalDist().inv_cdf(0.999) * (draws * rate * (1 - rate)) ** 0.5
