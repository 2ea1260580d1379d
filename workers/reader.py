"""One LLM with what is needed to ask it: probes in, numbers out. The dear part is sampling answers."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from records.evidence import Kept, said_again
from records.report import ItemNumbers
from workers.batches import Encoded, pad_id_of
from workers.errors import Diverged
from workers.evaluation.exposure import exposure_by_rank
from workers.evaluation.generation import Answers, decode
from workers.evaluation.scoring import Score, score
from workers.evaluation.token_statistics import TokenStatistics, token_statistics
from workers.evaluation.truth_ratio import truth_ratio, truth_share
from workers.examples import Example, fitting_windows
from workers.extraction import Sought, secrets_of, sought
from workers.item_numbers import Said, numbers_of, with_answers
from workers.methods.tokens import UNLABELLED
from workers.probes import Asked

# "sampled if likely": without samples where the probability of the answer says that none would hold it.
Depth = Literal["scored", "greedy", "sampled", "sampled if likely"]
OnAsked = Callable[[int], None]
UNLIKELY_HITS = 0.001
READ_TOKENS = 2**15  # at once: a batch of windows as long as a large context would need more memory than training


def answers_of(depth: Depth, samples: int) -> int:
    """What one question counts for: its score, and its answer as much as all its samples."""
    return 1 + {"scored": 0, "greedy": 1}.get(depth, samples or 1)


class Meter:
    """Tells how much of the asking is done, 0 to 1."""

    def __init__(self, total: int, on_share: Callable[[float], None]) -> None:
        self._done, self._total, self._on_share = 0, max(1, total), on_share

    def add(self, count: int) -> None:
        self._done += count
        self._on_share(min(1.0, self._done / self._total))


@dataclass(frozen=True, slots=True)
class MeasureSettings:
    """`samples` answers a question at temperature 1, and greedy ones from `prefixes` prefixes of the answer, evenly
    spread, for EL_10; `max_items` bounds each group but the forget set. What is `kept` of earlier requests is searched
    for in every answer.
    """

    samples: int = 20
    max_items: int = 400
    seed: int = 0
    context_tokens: int | None = None
    prefixes: int = 4
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """`said_again` are ids of earlier requests of which one of the answers holds what is kept."""

    asked: Asked
    numbers: ItemNumbers
    said_again: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Item:
    """A probe that can be asked, with what the teacher-forced pass told of it."""

    asked: Asked
    windows: list[Encoded]
    tokens: TokenStatistics

    @property
    def label_ids(self) -> tuple[int, ...]:
        return tuple(label for window in self.windows for label in window.labels[1:] if label != UNLABELLED)

    def sought(self) -> Sought:
        return sought(self.asked.probe.example, self.windows[0], self.tokens)


@dataclass(frozen=True)
class LlmReader:
    """`on_asked` is told how many answers were scored or generated, all samples of a question together."""

    llm: Any
    tokenizer: Any
    context_tokens: int
    settings: MeasureSettings
    on_asked: OnAsked = lambda _: None

    def measured(self, asked: Sequence[Asked], depth: Depth) -> tuple[list[Measured], int]:
        """Numbers of each probe, and how many could not be asked (no room, or nothing to predict).

        Raises Diverged where the LLM's probabilities are no numbers.
        """
        fitting = [(one, windows) for one in asked if (windows := self._windows(one.probe.example))]
        rows_asked = [windows for _, windows in fitting]
        statistics = token_statistics(self.llm, rows_asked, self._pad_id, most_tokens=READ_TOKENS)
        if not all(math.isfinite(sum(one.log_probabilities)) for one in statistics):
            raise Diverged("the LLM's probabilities are not numbers: its weights are damaged or training diverged")
        items = [_Item(*pair, tokens) for pair, tokens in zip(fitting, statistics, strict=True)]
        shares, exposures = self._truth_shares(items), self._exposures(items)
        numbers = [
            numbers_of(item.tokens, self.tokenizer.decode(list(item.label_ids)), shares.get(at), exposures.get(at))
            for at, item in enumerate(items)
        ]
        self.on_asked(len(asked))
        rows = [Measured(item.asked, its) for item, its in zip(items, numbers, strict=True)]
        if depth != "scored" and items:
            rows = self._with_answers(items, numbers, depth)
        return rows, len(asked) - len(fitting)

    @property
    def _pad_id(self) -> int:
        return pad_id_of(self.tokenizer)

    def _windows(self, example: Example) -> list[Encoded]:
        return fitting_windows(example, self.tokenizer, self.context_tokens)

    def _truth_shares(self, items: Sequence[_Item]) -> dict[int, float]:
        """By place, of the items that have a paraphrase that no training saw and wrong answers, all of which fit;
        `truth_ratio` has R."""
        asked = {at: item.asked.probe.example for at, item in enumerate(items) if not item.asked.seen_paraphrases}
        scores = self._scores({at: self._choice(example) for at, example in asked.items()})
        nlls = {at: [one.nll for one in some] for at, some in scores.items()}
        return {at: truth_share([truth_ratio(right, wrong)]) for at, (right, *wrong) in nlls.items()}

    def _exposures(self, items: Sequence[_Item]) -> dict[int, float]:
        """By place, of the canaries with wrong answers, all of which fit: these are what might have been planted."""
        scores = self._scores({at: self._planted(item.asked.probe.example) for at, item in enumerate(items)})
        nats = {at: [one.nll * one.tokens for one in some] for at, some in scores.items()}
        return {at: exposure_by_rank(planted, others) for at, (planted, *others) in nats.items()}

    def _scores(self, options: Mapping[int, list[list[Encoded]]]) -> dict[int, list[Score]]:
        """Of the rows at each place that has any."""
        asked = {at: some for at, some in options.items() if some}
        rows = [one for some in asked.values() for one in some]
        found = iter(score(self.llm, rows, self._pad_id, most_tokens=READ_TOKENS))
        return {at: [next(found) for _ in some] for at, some in asked.items()}

    def _planted(self, example: Example) -> list[list[Encoded]]:
        """The canary first; empty where something is missing."""
        if not example.canary or not example.wrong or example.completion is None:
            return []
        rows = [Example(prompt=example.prompt, completion=one) for one in (example.completion, *example.wrong)]
        options = [self._windows(row) for row in rows]
        return options if all(options) else []

    def _choice(self, example: Example) -> list[list[Encoded]]:
        """The right answer first, all after the first paraphrase's prompt; empty where something is missing."""
        if not example.paraphrases or not example.wrong:
            return []
        first = example.paraphrases[0]
        rows = [Example(prompt=first.prompt, completion=one) for one in (first.completion, *example.wrong)]
        options = [self._windows(row) for row in rows]
        return options if all(options) else []

    def _with_answers(self, items: Sequence[_Item], numbers: Sequence[ItemNumbers], depth: Depth) -> list[Measured]:
        wanted = [item.sought() for item in items]
        secrets = [
            secrets_of(item.asked.probe.example, one.answer_ids, self.tokenizer)
            for item, one in zip(items, wanted, strict=True)
        ]
        samples = 0 if depth == "greedy" else self.settings.samples
        may_skip = depth == "sampled if likely" and samples > 0
        unlikely = [
            may_skip and not secret.spans and one.sampled_hits_expected(samples) < UNLIKELY_HITS
            for one, secret in zip(wanted, secrets, strict=True)
        ]
        answers = self._answers(items, wanted, samples, unlikely)
        continued = self._continued(wanted)
        likelihoods = [one.likelihood(its, self.settings.prefixes) for one, its in zip(wanted, continued, strict=True)]
        again = [self._said_again(one, its.values()) for one, its in zip(answers, continued, strict=True)]
        said = map(Said, answers, secrets, likelihoods, unlikely)
        return [
            Measured(item.asked, with_answers(its, one, item.label_ids, self.tokenizer), whose)
            for item, its, one, whose in zip(items, numbers, said, again, strict=True)
        ]

    def _answers(
        self, items: Sequence[_Item], wanted: Sequence[Sought], samples: int, unlikely: Sequence[bool]
    ) -> list[Answers]:
        """Greedy ones alone where a hit is unlikely."""
        found: dict[int, Answers] = {}
        for count, chosen in ((samples, False), (0, True)):
            places = [at for at, one in enumerate(unlikely) if one is chosen]
            questions = [
                wanted[at].question(self.context_tokens, _seed_of(items[at].asked, self.settings.seed)) for at in places
            ]
            answers = decode(
                self.llm,
                questions,
                samples=count,
                on_answered=lambda n: self.on_asked(n * (samples or 1)),
                **self._ends,
            )
            found.update(zip(places, answers, strict=True))
        return [found[at] for at in range(len(items))]

    def _continued(self, wanted: Sequence[Sought]) -> list[dict[int, tuple[int, ...]]]:
        """What follows prefixes of each answer, by their lengths: EL_10 is worked out from it."""
        asked = [one.continuation_questions(self.settings.prefixes) for one in wanted]
        answers = iter(decode(self.llm, [q for some in asked for q in some.values()], samples=0, **self._ends))
        return [{given: next(answers).greedy for given in some} for some in asked]

    def _said_again(self, answers: Answers, continued: Iterable[tuple[int, ...]]) -> frozenset[str]:
        kept = self.settings.kept
        if kept is None:
            return frozenset()
        texts = {self.tokenizer.decode(list(ids), skip_special_tokens=True) for ids in (*answers.sampled, *continued)}
        texts.add(self.tokenizer.decode(list(answers.greedy), skip_special_tokens=True))
        return frozenset().union(*(said_again(text, kept) for text in texts))

    @property
    def _ends(self) -> Mapping[str, Any]:
        return {"stop_ids": _stop_ids(self.llm, self.tokenizer), "pad_id": self._pad_id}


def _seed_of(asked: Asked, seed: int) -> int:
    return seed * 1_000_003 + asked.probe.item * 101 + asked.probe.phrasing


def _stop_ids(llm: Any, tokenizer: Any) -> list[int]:
    configured = getattr(llm.generation_config, "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    return sorted({int(one) for one in [*several, tokenizer.eos_token_id] if one is not None})
