"""One LLM under every probe: teacher-forced scores of all, generated answers where something should be gone."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from records.report import GroupName, ItemNumbers
from workers.batches import Encoded
from workers.errors import Diverged, ExampleTooLong
from workers.evaluation.generation import Answers, Question, contains, decode
from workers.evaluation.scoring import Score, score
from workers.examples import Example, encode
from workers.loop import pad_id_of
from workers.methods.tokens import UNLABELLED
from workers.probes import Asked, Probes, earlier_of, groups_of

# Whoever must be kept is scored only: greedy decoding reproduces an answer exactly when `exact` is true.
GENERATED = frozenset(
    {
        GroupName.FORGET,
        GroupName.FORGET_PARAPHRASES,
        GroupName.CONTROL,
        GroupName.CONTROL_PARAPHRASES,
    }
)
OnShare = Callable[[float], None]
EXTRA_TOKENS = 8
VERBATIM_TOKENS = 50


@dataclass(frozen=True, slots=True)
class MeasureSettings:
    """`samples` answers a question at temperature 1; `max_items` bounds each group but the forget set."""

    samples: int = 20
    max_items: int = 400
    seed: int = 0
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    asked: Asked
    numbers: ItemNumbers


@dataclass(frozen=True)
class Measurement:
    groups: dict[GroupName, list[Measured]]
    earlier: dict[str, list[Measured]]
    samples: int
    seed: int
    seconds: float
    notes: tuple[str, ...]

    def control_level(self) -> float | None:
        """Mean token probability of a never-trained answer, in all its phrasings; None without a control."""
        rows = [*self.groups.get(GroupName.CONTROL, []), *self.groups.get(GroupName.CONTROL_PARAPHRASES, [])]
        if not rows:
            return None
        return sum(row.numbers.token_probability for row in rows) / len(rows)


class _Meter:
    """Tells how much of the asking is done. An answer that is generated counts as much as all its samples."""

    def __init__(self, total: int, on_share: OnShare) -> None:
        self._done, self._total, self._on_share = 0, max(1, total), on_share

    def add(self, probes: int) -> None:
        self._done += probes
        self._on_share(min(1.0, self._done / self._total))


@dataclass(frozen=True, slots=True)
class Instruments:
    """What reads and what asks, each called once a group, in their order. Others may keep more of what they saw."""

    score: Callable[[Any, Sequence[Sequence[Encoded]], int], list[Score]] = score
    decode: Callable[..., list[Answers]] = decode


@dataclass(frozen=True)
class _Reader:
    """One LLM with what is needed to ask it."""

    llm: Any
    tokenizer: Any
    context_tokens: int
    pad_id: int
    settings: MeasureSettings
    meter: _Meter
    instruments: Instruments

    def measured(self, asked: Sequence[Asked], *, generated: bool) -> tuple[list[Measured], int]:
        """Numbers of each probe, and how many could not be asked (no room, or nothing to predict)."""
        fitting = [(one, windows) for one in asked if (windows := self._windows(one.probe.example))]
        scores = self.instruments.score(self.llm, [windows for _, windows in fitting], self.pad_id)
        self.meter.add(len(asked))
        if not all(math.isfinite(one.nll) for one in scores):
            raise Diverged("the LLM's probabilities are not numbers: its weights are damaged or training diverged")
        hits: list[tuple[bool | None, int | None]] = [(None, None)] * len(fitting)
        if generated:
            hits = self._extracted(fitting)
        rows = [
            Measured(one, _numbers(item_score, *hit))
            for (one, _), item_score, hit in zip(fitting, scores, hits, strict=True)
        ]
        return rows, len(asked) - len(fitting)

    def _windows(self, example: Example) -> list[Encoded]:
        try:
            windows = encode(example, self.tokenizer, self.context_tokens)
        except ExampleTooLong:
            return []
        return [window for window in windows if window.labelled_tokens]

    def _extracted(self, fitting: Sequence[tuple[Asked, list[Encoded]]]) -> list[tuple[bool | None, int | None]]:
        asked = [_question(one, windows[0], self.context_tokens, self.settings.seed) for one, windows in fitting]
        answers = self.instruments.decode(
            self.llm,
            [question for question, _ in asked],
            samples=self.settings.samples,
            stop_ids=_stop_ids(self.llm, self.tokenizer),
            pad_id=self.pad_id,
            on_answered=lambda count: self.meter.add(count * self.settings.samples),
        )
        return [
            self._hits(one.probe.example, answer_ids, answer)
            for (one, _), (_, answer_ids), answer in zip(fitting, asked, answers, strict=True)
        ]

    def _hits(self, example: Example, answer_ids: Sequence[int], answers: Answers) -> tuple[bool, int]:
        wanted = [self.tokenizer.decode(list(answer_ids), skip_special_tokens=True)]
        if example.completion is not None:
            wanted.append(example.completion)
        given = example.prompt or ""
        wanted += [span for span in example.sensitive if not contains(given, span)]

        def leaks(ids: Sequence[int]) -> bool:
            text = self.tokenizer.decode(list(ids), skip_special_tokens=True)
            return any(contains(text, one) for one in wanted)

        return leaks(answers.greedy), sum(leaks(ids) for ids in answers.sampled)


def measure(
    llm: Any,
    tokenizer: Any,
    probes: Probes,
    settings: MeasureSettings | None = None,
    on_share: OnShare = lambda _: None,
    instruments: Instruments = Instruments(),
) -> Measurement:
    """Ask one LLM everything. Same probes and settings give comparable rows for another LLM.

    `on_share` is told the share done, 0 to 1, after each batch; what it raises (a cancel) passes to the caller.
    """
    settings = settings or MeasureSettings()
    started = time.monotonic()
    llm.eval()
    context = settings.context_tokens or int(llm.config.get_text_config().max_position_embeddings)
    pad_id = pad_id_of(tokenizer)
    planned, past = groups_of(probes, settings.max_items, settings.seed), earlier_of(probes)
    costs = [(asked, name in GENERATED) for name, asked in planned.items()] + [(asked, True) for asked in past.values()]
    total = sum(len(asked) * (1 + settings.samples * generated) for asked, generated in costs)
    reader = _Reader(llm, tokenizer, context, pad_id, settings, _Meter(total, on_share), instruments)
    groups, notes = {}, []
    for name, asked in planned.items():
        groups[name], left_out = reader.measured(asked, generated=name in GENERATED)
        if left_out:
            notes.append(f"{left_out} probes of {name} were left out: they do not fit or have nothing to predict")
    earlier = {request_id: reader.measured(asked, generated=True)[0] for request_id, asked in past.items()}
    notes += _sampling_notes(probes, settings.max_items)
    seconds = time.monotonic() - started
    return Measurement(groups, earlier, settings.samples, settings.seed, seconds, tuple(notes))


def _question(asked: Asked, window: Encoded, context_tokens: int, seed: int) -> tuple[Question, Sequence[int]]:
    """The prompt to continue, and the ids of the answer it must not produce. A text is cut in half."""
    labelled = [at for at, label in enumerate(window.labels) if label != UNLABELLED]
    start, stop = labelled[0], labelled[-1] + 1
    if asked.probe.example.text is not None:
        start = max(1, (start + stop) // 2)
        stop = min(stop, start + VERBATIM_TOKENS)
    ids = window.ids[:start]
    room = max(1, min(stop - start + EXTRA_TOKENS, context_tokens - len(ids)))
    unique = seed * 1_000_003 + asked.probe.item * 101 + asked.probe.phrasing
    return Question(ids, room, unique), window.ids[start:stop]


def _stop_ids(llm: Any, tokenizer: Any) -> list[int]:
    configured = getattr(llm.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    return sorted({int(one) for one in [*several, tokenizer.eos_token_id] if one is not None})


def _numbers(item: Score, greedy: bool | None, hits: int | None) -> ItemNumbers:
    return ItemNumbers(
        nll=item.nll,
        token_probability=item.token_probability,
        exact=item.exact,
        token_accuracy=item.token_accuracy,
        extraction_strength=item.extraction_strength,
        sampled_probability=item.sampled_probability,
        greedy_extracted=greedy,
        sampled_hits=hits,
    )


def _sampling_notes(probes: Probes, max_items: int) -> list[str]:
    sizes = {
        "control": len(probes.control),
        "retain": len(probes.retain),
        "neighbours": len(probes.neighbours),
        "utility": len(probes.utility),
    }
    return [
        f"{max_items} of {size} {name} rows were measured, drawn by the seed"
        for name, size in sizes.items()
        if size > max_items
    ]
