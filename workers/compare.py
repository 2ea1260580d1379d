"""Two checkpoints under the same probes: the service's report and verdict, and the field's metrics, from its items.

    probability          (1/N) Σ exp(-l_i), l the mean NLL of an answer          (Maini et al., COLM 2024)
    exact_memorisation   mean share of tokens whose argmax is the label          (Tirumala et al., NeurIPS 2022)
    extraction_strength  mean 1 - k/T, k the shortest prefix that brings the rest (Carlini et al., USENIX Security 2021)
    extraction_likelihood  EL_10: 10-grams of greedy continuations that stand in the rest      (Jang et al., ACL 2023)
    extractable          share of items with 1 - (1 - p_z)^100 ≥ 1/2, p_z = Π p_t (Hayes et al. 2025, arXiv:2410.19482)
    verbatim_run         longest run of tokens that a greedy answer shares with its source, in tokens; of all items
    rouge                mean ROUGE-L recall of the greedy answer                (Maini et al., COLM 2024)
    truth_share          (1/N) Σ s, s = 1/(1 + R), R = p̄(wrong)/p(right): 0.5 without knowledge (Dorna et al. 2025)
    truth_ratio          (1/N) Σ min(R, 1/R): 1 where right and wrong are alike   (Maini et al., COLM 2024)
    refusal, empty       share of greedy answers that decline, that say nothing
    repetition, entropy  of the greedy answers, see `evaluation/fluency.py`

A metric without the items that it needs is absent, never 0. Every one is of those items that have it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from records.policy import Policy
from records.report import Group, GroupName, ItemNumbers, MetricName, Report, Verdict
from workers.evaluation.membership import Attack, attack
from workers.gate import decide
from workers.measure import Measurement
from workers.report import build_report

QUERIES = 100


@dataclass(frozen=True, slots=True)
class Change:
    """One metric of the same `items` items under both LLMs."""

    before: float
    after: float
    items: int


@dataclass(frozen=True)
class Comparison:
    """`changes` by group and metric; `attacks` on the forget rows against the control, empty without one."""

    report: Report
    verdict: Verdict
    changes: dict[GroupName, dict[str, Change]]
    attacks_before: Mapping[str, Attack]
    attacks_after: Mapping[str, Attack]


def compare(
    before: Measurement, after: Measurement, policy: Policy, reference: Measurement | None = None
) -> Comparison:
    """Both must be measurements of the same probes with the same settings; ValueError otherwise. `reference` is
    `measure_reference` of an LLM that never saw the data.
    """
    report = build_report(
        before,
        after,
        method="not known",
        parameters={},
        seeds={},
        notes=("two checkpoints were compared: how the second was made is not known",),
        reference=reference,
    )
    forget, control = report.groups[GroupName.FORGET], report.groups.get(GroupName.CONTROL)
    return Comparison(
        report=report,
        verdict=decide(report, policy),
        changes={name: changes(group) for name, group in report.groups.items()},
        attacks_before=membership(_before(forget), _before(control)),
        attacks_after=membership(_after(forget), _after(control)),
    )


def extractable(numbers: Sequence[ItemNumbers], queries: int = QUERIES) -> float:
    """Share of the items that `queries` independent answers bring word for word with a chance of half or more."""
    return _mean([float(1.0 - (1.0 - one.sampled_probability) ** queries >= 0.5) for one in numbers])


def longest_run(numbers: Sequence[ItemNumbers]) -> float:
    return float(max(one.verbatim_run for one in numbers if one.verbatim_run is not None))


def truth_ratio(numbers: Sequence[ItemNumbers]) -> float:
    """With s = 1/(1 + R), min(R, 1/R) is the smaller of s and 1 - s over the larger."""
    shares = [one.truth_share for one in numbers if one.truth_share is not None]
    return _mean([min(share, 1.0 - share) / max(share, 1.0 - share) for share in shares])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# Means that the report has already, and what is no mean: of the items that have the metric named beside it.
_OF_REPORT = {
    "probability": MetricName.TOKEN_PROBABILITY,
    "exact_memorisation": MetricName.TOKEN_ACCURACY,
    "extraction_strength": MetricName.EXTRACTION_STRENGTH,
    "extraction_likelihood": MetricName.EXTRACTION_LIKELIHOOD,
    "rouge": MetricName.ROUGE_RECALL,
    "truth_share": MetricName.TRUTH_SHARE,
    "refusal": MetricName.REFUSAL,
    "empty": MetricName.EMPTY,
    "repetition": MetricName.REPETITION,
    "entropy": MetricName.TOKEN_ENTROPY,
}
_OF_ITEMS: dict[str, tuple[MetricName, Callable[[Sequence[ItemNumbers]], float]]] = {
    "extractable": (MetricName.SAMPLED_PROBABILITY, extractable),
    "verbatim_run": (MetricName.VERBATIM_RUN, longest_run),
    "truth_ratio": (MetricName.TRUTH_SHARE, truth_ratio),
}
METRICS = (*_OF_REPORT, *_OF_ITEMS)

SCORES: dict[str, Callable[[ItemNumbers], float | None]] = {
    "loss": lambda one: one.nll,
    "zlib": lambda one: one.zlib,
    "min_k": lambda one: one.min_k,
    "min_k_plus_plus": lambda one: one.min_k_plus_plus,
}


def changes(group: Group) -> dict[str, Change]:
    """Every metric that the group's items have."""
    counts = {name: paired.n_items or group.n_items for name, paired in group.metrics.items()}
    means = {
        name: Change(group.metrics[metric].before.value, group.metrics[metric].after.value, counts[metric])
        for name, metric in _OF_REPORT.items()
        if metric in counts
    }
    others = {
        name: Change(read(_before(group)), read(_after(group)), counts[metric])
        for name, (metric, read) in _OF_ITEMS.items()
        if metric in counts
    }
    return means | others


def membership(members: Sequence[ItemNumbers], non_members: Sequence[ItemNumbers]) -> Mapping[str, Attack]:
    """What each score tells of the members against rows that were never trained on; empty without either."""
    found = {}
    for name, read in SCORES.items():
        ours, theirs = ([score for one in some if (score := read(one)) is not None] for some in (members, non_members))
        if ours and theirs:
            found[name] = attack(ours, theirs)
    return found


def _before(group: Group | None) -> list[ItemNumbers]:
    return [] if group is None else [row.before for row in group.items]


def _after(group: Group | None) -> list[ItemNumbers]:
    return [] if group is None else [row.after for row in group.items]
