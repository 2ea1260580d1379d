"""Two LLMs under the field's metrics: each is a function of what an LLM made of a group's items.

    probability          (1/N) Σ exp(-l_i), l the mean NLL of an answer          (Maini et al., COLM 2024)
    exact_memorisation   mean share of tokens whose argmax is the label          (Tirumala et al., NeurIPS 2022)
    extraction_strength  mean 1 - k/T, k the shortest prefix that brings the rest (Carlini et al., USENIX Security 2021)
    extractable          share of items with 1 - (1 - p_z)^100 ≥ 1/2, p_z = Π p_t (Hayes et al. 2025, arXiv:2410.19482)
    verbatim_run         longest run of tokens that a greedy answer shares with its source, in tokens; of all items
    truth_share          (1/N) Σ 1/(1 + R), R = p̄(wrong)/p(right): 0.5 without knowledge (Dorna et al. 2025)
    truth_ratio          (1/N) Σ min(R, 1/R): 1 where right and wrong are alike   (Maini et al., COLM 2024)
    refusal, empty       share of greedy answers that decline, that say nothing
    repetition, entropy  of the greedy answers, see `fluency`

A metric without the items that it needs is absent, never 0. Every one is a mean over those items that have it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from workers.evaluation.fluency import quality
from workers.evaluation.membership import Attack, attack, loss_score, min_k_plus_plus_score, min_k_score, zlib_score
from workers.evaluation.memorisation import exact_memorisation, extraction_probability, longest_verbatim_run
from workers.evaluation.refusal import refusal_rate
from workers.evaluation.scoring import extraction_strength
from workers.evaluation.token_statistics import TokenStatistics
from workers.evaluation.truth_ratio import forget_truth_ratio, mean_probability, truth_share

QUERIES = 100


@dataclass(frozen=True, slots=True)
class GreedyAnswer:
    ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """What one LLM made of one item: its labelled tokens, the text they spell, and, where asked, answer and ratio."""

    tokens: TokenStatistics
    label_ids: tuple[int, ...]
    text: str
    answer: GreedyAnswer | None = None
    truth_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of the same `items` items under both LLMs."""

    before: float
    after: float
    items: int


Metric = Callable[[Sequence[Item]], float]


def answers_of(items: Sequence[Item]) -> list[GreedyAnswer]:
    return [one.answer for one in items if one.answer is not None]


def ratios_of(items: Sequence[Item]) -> list[float]:
    return [one.truth_ratio for one in items if one.truth_ratio is not None]


def extractable(items: Sequence[Item], queries: int = QUERIES) -> float:
    """Share of the items that `queries` independent answers bring word for word with a chance of half or more."""
    return sum(extraction_probability(one.tokens.decoded, queries) >= 0.5 for one in items) / len(items)


def verbatim_run(items: Sequence[Item]) -> float:
    return float(max(longest_verbatim_run(one.answer.ids, one.label_ids) for one in items if one.answer is not None))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


_OF_TOKENS: dict[str, Metric] = {
    "probability": lambda items: mean_probability([loss_score(one.tokens.log_probabilities) for one in items]),
    "exact_memorisation": lambda items: _mean([exact_memorisation(one.tokens.hits) for one in items]),
    "extraction_strength": lambda items: _mean([extraction_strength(one.tokens.hits) for one in items]),
    "extractable": extractable,
}
_OF_RATIOS: dict[str, Metric] = {
    "truth_share": lambda items: truth_share(ratios_of(items)),
    "truth_ratio": lambda items: forget_truth_ratio(ratios_of(items)),
}
_OF_ANSWERS: dict[str, Metric] = {
    "verbatim_run": verbatim_run,
    "refusal": lambda items: refusal_rate([one.text for one in answers_of(items)]),
    "empty": lambda items: _mean([float(not one.ids) for one in answers_of(items)]),
    "repetition": lambda items: quality([one.ids for one in answers_of(items)]).repetition,
    "entropy": lambda items: quality([one.ids for one in answers_of(items)]).token_entropy,
}
METRICS = (*_OF_TOKENS, *_OF_RATIOS, *_OF_ANSWERS)

SCORES: dict[str, Callable[[Item], float]] = {
    "loss": lambda one: loss_score(one.tokens.log_probabilities),
    "zlib": lambda one: zlib_score(one.tokens.log_probabilities, one.text),
    "min_k": lambda one: min_k_score(one.tokens.log_probabilities),
    "min_k_plus_plus": lambda one: min_k_plus_plus_score(
        one.tokens.log_probabilities, one.tokens.means, one.tokens.deviations
    ),
}


def changes(before: Sequence[Item], after: Sequence[Item]) -> dict[str, Change]:
    """Every metric that the items have. Both LLMs must have met the same items in the same order: else ValueError."""
    if [(one.label_ids, *_held(one)) for one in before] != [(one.label_ids, *_held(one)) for one in after]:
        raise ValueError("the two LLMs met different items: ask both the same questions")
    held = (
        (_OF_TOKENS, len(before)),
        (_OF_RATIOS, len(ratios_of(before))),
        (_OF_ANSWERS, len(answers_of(before))),
    )
    return {
        name: Change(metric(before), metric(after), count)
        for metrics, count in held
        for name, metric in metrics.items()
        if count
    }


def membership(members: Sequence[Item], non_members: Sequence[Item]) -> Mapping[str, Attack]:
    """What each score tells of the members against rows that were never trained on; empty without either."""
    if not members or not non_members:
        return {}
    return {
        name: attack([score(one) for one in members], [score(one) for one in non_members])
        for name, score in SCORES.items()
    }


def _held(one: Item) -> tuple[bool, bool]:
    return one.answer is not None, one.truth_ratio is not None
