"""One LLM under attack: asked with other weights and in other ways, and trained further. Afterwards it is as before."""

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from records.report import Attack, Group, GroupName, HashedRequest
from workers.attacks.quantised import WeightSource, moved_codes, quantised
from workers.attacks.questions import Asking, rows_asked
from workers.attacks.relearning import OnStep, Trained, Training, relearned, training_rows
from workers.attacks.relearning_rows import Relearning
from workers.batches import pad_id_of
from workers.errors import Diverged
from workers.hashed import said_again
from workers.probes import Asked, Probes
from workers.reader import LlmReader, Measured
from workers.report import build_group

Answered = Mapping[GroupName, list[Measured]]
NOT_NUMBERS = "not measured: the probabilities of the {} are not numbers under this attack"
NO_ROWS = "not measured: no row to train on fits the context"


@dataclass(frozen=True)
class AttackedLlm:
    """`reader` asks it, in its context and with its settings."""

    llm: Any
    tokenizer: Any
    reader: LlmReader

    def answered(self, asking: Asking) -> Answered | None:
        """None where the probabilities are not numbers."""
        try:
            with quantised(self.llm, asking.precision) if asking.precision else nullcontext():
                return {name: self.reader.measured(asked, asking.depth)[0] for name, asked in asking.groups.items()}
        except Diverged:
            return None

    def asked(self, asking: Asking, base: Answered | None, base_weight: WeightSource | None) -> Attack:
        """`before` is what the base version answered."""
        started = time.monotonic()
        candidate = self.answered(asking)
        notes = [NOT_NUMBERS.format(who) for who, its in (("base", base), ("candidate", candidate)) if its is None]
        if asking.precision == "nf4" and base_weight is not None:
            notes.append(_moved(base_weight, self.llm))
        groups = {} if base is None or candidate is None else _paired(base, candidate, self._samples(asking))
        return Attack(
            name=asking.name,
            kind=asking.kind,
            groups=groups,
            hashed=tuple(self._hashed(base, candidate)),
            seconds=time.monotonic() - started,
            candidate_broke=base is not None and candidate is None,
            notes=tuple(notes),
        )

    def retrained(self, lesson: Relearning, probes: Probes, training: Training, on_step: OnStep) -> Attack:
        """`before` is the LLM as it is, `after` what the lesson made of it."""
        started = time.monotonic()
        asked = _asked_about(lesson, probes)
        groups, note = self._before_and_after(lesson, asked, training, on_step)
        seconds = time.monotonic() - started
        return Attack(name=lesson.name, kind="relearning", groups=groups, seconds=seconds, notes=(note,))

    def _before_and_after(
        self, lesson: Relearning, asked: Mapping[GroupName, list[Asked]], training: Training, on_step: OnStep
    ) -> tuple[dict[GroupName, Group], str]:
        rows = training_rows(lesson.trained, self.tokenizer, self.reader.context_tokens)
        if not rows:
            return {}, NO_ROWS
        pad_id = pad_id_of(self.tokenizer)
        try:
            before = self._scored(asked)
            with relearned(self.llm, rows, lesson.steps, lesson.batch_size, training, pad_id, on_step) as trained:
                after = self._scored(asked)
        except Diverged as error:
            return {}, f"not measured: {error}"
        return _paired(before, after, 0), _dose(trained, lesson)

    def _scored(self, asked: Mapping[GroupName, list[Asked]]) -> Answered:
        return {name: self.reader.measured(some, "scored")[0] for name, some in asked.items()}

    def _hashed(self, base: Answered | None, candidate: Answered | None) -> Iterator[HashedRequest]:
        kept = self.reader.settings.kept
        if kept is not None and base is not None and candidate is not None:
            before, after = ([row for rows in one.values() for row in rows] for one in (base, candidate))
            yield from said_again(kept.requests, before, after)

    def _samples(self, asking: Asking) -> int:
        return self.reader.settings.samples if asking.depth == "sampled" else 0


def _asked_about(lesson: Relearning, probes: Probes) -> dict[GroupName, list[Asked]]:
    forget, control = rows_asked(probes.forget), rows_asked(probes.control)
    chosen = {
        GroupName.FORGET: [forget[at] for at in lesson.forget],
        GroupName.CONTROL: [control[at] for at in lesson.control],
    }
    return {name: asked for name, asked in chosen.items() if asked}


def _paired(before: Answered, after: Answered, samples: int) -> dict[GroupName, Group]:
    return {name: build_group(rows, after[name], samples) for name, rows in before.items() if rows}


def _dose(trained: Trained, lesson: Relearning) -> str:
    return (
        f"{trained.steps} steps of {lesson.batch_size} rows at a step size of {trained.learning_rate:g}; the loss on "
        f"the rows trained on went from {trained.first_loss:.3f} to {trained.last_loss:.3f} nats a token"
    )


def _moved(base_weight: WeightSource, llm: Any) -> str:
    moved = moved_codes(base_weight, llm)
    if not moved.compared:
        return "4-bit codes were not compared: the base version's files name their matrices otherwise"
    if moved.share is None:
        return "no weight that is rounded was changed"
    return f"{100 * moved.share:.1f} % of the weights that unlearning changed have another 4-bit code than before"
