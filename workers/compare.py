"""Two checkpoints under the same probes: the service's report and verdict, and the field's metrics beside them.

One teacher-forced pass a group feeds both: `Keeping` measures with `token_statistics`, of which a Score is a summary.
Wrong answers are read in a second, with the first paraphrase as the right one and its prompt before all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from records.policy import Policy
from records.report import GroupName, Report, Verdict
from workers.batches import Encoded
from workers.errors import ExampleTooLong
from workers.evaluation.comparison import Change, GreedyAnswer, Item, changes, membership
from workers.evaluation.generation import Answers, decode
from workers.evaluation.membership import Attack
from workers.evaluation.scoring import Score, score, summarise
from workers.evaluation.token_statistics import TokenStatistics, token_statistics
from workers.evaluation.truth_ratio import truth_ratio
from workers.examples import Example, encode
from workers.gate import decide
from workers.loop import pad_id_of
from workers.measure import Instruments, Measured, Measurement, MeasureSettings, measure
from workers.methods.tokens import UNLABELLED
from workers.probes import Probes
from workers.report import build_report


@dataclass(frozen=True)
class Reading:
    """One LLM's measurement, and the items of each group."""

    measurement: Measurement
    items: dict[GroupName, list[Item]]


@dataclass(frozen=True)
class Comparison:
    """`changes` by group and metric; `attacks` on the forget rows against the control, empty without one."""

    report: Report
    verdict: Verdict
    changes: dict[GroupName, dict[str, Change]]
    attacks_before: Mapping[str, Attack]
    attacks_after: Mapping[str, Attack]


@dataclass(frozen=True, slots=True)
class _Seen:
    """One group as it was read; `answers` stays empty where nothing was generated."""

    statistics: list[TokenStatistics]
    label_ids: list[tuple[int, ...]]
    answers: list[Answers] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Keeping:
    """Instruments that keep what they saw, a `_Seen` a group in the order of the groups."""

    groups: list[_Seen] = field(default_factory=list)

    def score(self, llm: Any, items: Sequence[Sequence[Encoded]], pad_id: int) -> list[Score]:
        statistics = token_statistics(llm, items, pad_id)
        self.groups.append(_Seen(statistics, [_labels(windows) for windows in items]))
        return [summarise(one.log_probabilities, one.hits) for one in statistics]

    def decode(self, *arguments: Any, **settings: Any) -> list[Answers]:
        answers = decode(*arguments, **settings)
        self.groups[-1].answers.extend(answers)
        return answers


def read(llm: Any, tokenizer: Any, probes: Probes, settings: MeasureSettings) -> Reading:
    """`settings.context_tokens` must be given, the same for both LLMs. Raises Diverged for damaged weights."""
    if settings.context_tokens is None:
        raise ValueError("context_tokens is missing: both LLMs must be read in the same windows")
    if probes.earlier:
        raise ValueError("earlier requests are not compared: leave them out")
    keeping = _Keeping()
    instruments = Instruments(keeping.score, keeping.decode)
    measurement = measure(llm, tokenizer, probes, settings, instruments=instruments)
    items = {}
    for (name, rows), seen in zip(measurement.groups.items(), keeping.groups, strict=True):
        ratios = truth_ratios(llm, tokenizer, rows, settings.context_tokens)
        items[name] = [
            Item(
                tokens=statistics,
                label_ids=seen.label_ids[at],
                text=tokenizer.decode(list(seen.label_ids[at])),
                answer=_greedy(seen.answers[at], tokenizer) if seen.answers else None,
                truth_ratio=ratios.get(at),
            )
            for at, statistics in enumerate(seen.statistics)
        ]
    return Reading(measurement, items)


def compare(before: Reading, after: Reading, policy: Policy) -> Comparison:
    """Both must be readings of the same probes with the same settings; ValueError otherwise."""
    report = build_report(
        before.measurement,
        after.measurement,
        method="not known",
        parameters={},
        seeds={},
        notes=("two checkpoints were compared: how the second was made is not known",),
    )
    control = GroupName.CONTROL
    return Comparison(
        report=report,
        verdict=decide(report, policy),
        changes={name: changes(before.items[name], after.items[name]) for name in report.groups},
        attacks_before=membership(before.items[GroupName.FORGET], before.items.get(control, [])),
        attacks_after=membership(after.items[GroupName.FORGET], after.items.get(control, [])),
    )


def truth_ratios(llm: Any, tokenizer: Any, rows: Sequence[Measured], context_tokens: int) -> dict[int, float]:
    """R of the rows that have a paraphrase and wrong answers, by place among `rows`; see `evaluation/truth_ratio.py`.

    A row of which one answer does not fit the context has none.
    """
    choices = {at: _choice(row.asked.probe.example, tokenizer, context_tokens) for at, row in enumerate(rows)}
    asked = {at: options for at, options in choices.items() if options}
    flat = [option for options in asked.values() for option in options]
    pad_id = pad_id_of(tokenizer)
    nlls = iter([one.nll for one in score(llm, flat, pad_id)])
    found = {}
    for at, options in asked.items():
        right, *wrong = (next(nlls) for _ in options)
        found[at] = truth_ratio(right, wrong)
    return found


def _choice(example: Example, tokenizer: Any, context_tokens: int) -> list[list[Encoded]]:
    """The right answer first; empty where something is missing."""
    if not example.paraphrases or not example.wrong:
        return []
    first = example.paraphrases[0]
    rows = [Example(prompt=first.prompt, completion=one) for one in (first.completion, *example.wrong)]
    try:
        options = [encode(one, tokenizer, context_tokens) for one in rows]
    except ExampleTooLong:
        return []
    return options if all(any(window.labelled_tokens for window in windows) for windows in options) else []


def _labels(windows: Sequence[Encoded]) -> tuple[int, ...]:
    """The token ids that are predicted, in their order."""
    return tuple(label for window in windows for label in window.labels[1:] if label != UNLABELLED)


def _greedy(answers: Answers, tokenizer: Any) -> GreedyAnswer:
    return GreedyAnswer(answers.greedy, tokenizer.decode(list(answers.greedy), skip_special_tokens=True))
