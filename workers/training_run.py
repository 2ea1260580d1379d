"""The moving parts of one call of `unlearn`: which rows come at which step, the optimiser's step, and the way back."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from records.params import TrainingParameters
from workers.batch_gradients import BatchGradients
from workers.batches import Row, collate, cut, endless, in_order_of_length, order, slices
from workers.checkpoint import CheckpointFile
from workers.errors import Diverged, Stopped, UnknownHead, Unsuitable
from workers.evaluation.scoring import score
from workers.fit import PASS_ROWS, pass_tokens
from workers.good_step import (
    EXPLODED_STEPS,
    LOOK_ROWS,
    MOST_ROLLBACKS,
    GoodStep,
    Place,
    Trained,
    divided,
    fits,
    note_losses,
    put_back,
    take,
)
from workers.lessons import Lessons
from workers.methods.conflicts import Rule
from workers.methods.head import UnknownHeadError, require_known_head
from workers.methods.interface import (
    AsksEveryStep,
    Batch,
    ChoosesWeights,
    Counts,
    Method,
    SettlesConflicts,
)
from workers.methods.layers import UnsuitableError
from workers.never_trained import own_level
from workers.row_tokens import row_tokens
from workers.schedule import MOST_REPAIRS, repair_steps, step_size_factor, with_repairs
from workers.sharding import clip_gradients, in_kinds
from workers.stopping import StopRule, active_items
from workers.update_limit import UpdateLimit


@dataclass(frozen=True, slots=True)
class Progress:
    """`steps` is the most there can be; the loop often ends sooner. `step` falls when training goes back."""

    step: int
    steps: int
    epoch: int
    forget_loss: float
    retain_loss: float | None
    active_items: int
    items: int

    @property
    def fraction(self) -> float:
        return self.step / self.steps


OnStep = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a run stopped, in words, and how many items were still known then."""

    why: str
    known: int


FORGOTTEN = Ended("every item is at the never-trained level", 0)


class TrainingRun:
    """One call of `unlearn`: its place, and the last good step, to which it goes back when a later one breaks the LLM.

    After four such breaks training has diverged.
    """

    def __init__(
        self,
        student: Any,
        method: Method,
        settings: TrainingParameters,
        lessons: Lessons,
        rule: StopRule,
        pad_id: int,
    ) -> None:
        self.student, self.method, self.settings, self.lessons, self.rule = student, method, settings, lessons, rule
        self.pad_id = pad_id
        self.most_tokens = pass_tokens(settings, row_tokens(lessons).longest)
        rows = sum(len(windows) for windows in lessons.rows)
        steps = settings.epochs * max(1, math.ceil(rows / settings.batch_size))
        self.repairs = bool(method.wants_retain and lessons.retain and settings.repair_steps)
        steps = with_repairs(settings, steps) if self.repairs else steps
        self.steps = min(steps, settings.max_steps or steps)
        self.place, self.resumed_at = Place(), 0
        self.good: GoodStep | None = None
        self.limit: UpdateLimit | None = None
        projects = method.wants_retain and not isinstance(method, SettlesConflicts)
        self.gradients = BatchGradients(student, method, Rule(settings.conflict_scope if projects else "off"))
        self.retain_order = endless(len(lessons.retain), settings.seed)
        self.retain_count = settings.retain_batch_size or settings.batch_size

    def prepare(self, teacher: Any) -> None:
        rows = [row for windows in self.lessons.rows for row in windows] + self.lessons.retain
        wide = (self._batch(some) for some in in_order_of_length(rows, PASS_ROWS))
        batches = [batch for one in wide for batch in cut(one, self.most_tokens)]
        try:
            # The student's, whatever the method asks of its teacher: when an item is forgotten is read off its head.
            for first in batches[:1]:
                require_known_head(self.student, first.ids_BT, first.mask_BT)
            self.method.prepare(teacher, batches, self.rule.level)
            if isinstance(self.method, AsksEveryStep) and teacher is not self.student:
                self.method.remember(teacher, batches)
        except UnknownHeadError as error:
            raise UnknownHead(str(error)) from error
        except UnsuitableError as error:
            raise Unsuitable(str(error)) from error

    def digest(self, method_name: str) -> str:
        """Of everything but the weights that decides the steps, which rows come in which order among it."""
        level = f"{self.rule.level:.3g}"  # measured: its last digits may differ between two executions
        lessons = (self.lessons.rows, self.lessons.judged, self.lessons.retain)
        parts = (method_name, self.settings.model_dump_json(), level, self.pad_id, lessons)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def active(self, among: Sequence[int] | None = None) -> list[int]:
        """The items that are still known, ascending; None asks all."""
        chosen = set(range(len(self.lessons.rows)) if among is None else among)
        judged = [(item, windows) for item, windows in self.lessons.judged if item in chosen]
        scores = score(self.student, [windows for _, windows in judged], self.pad_id, most_tokens=self.most_tokens)
        if not all(math.isfinite(one.nll) for one in scores):
            # NaN is not above any level: without this a broken LLM would look as if it had forgotten.
            raise self._diverged("the LLM's probabilities are not numbers")
        own_levels = [own_level(windows) for _, windows in judged]
        return active_items(self.rule, scores, [item for item, _ in judged], own_levels)

    def _still_known(self) -> list[int]:
        """Of this round's items; of all once those are done, since steps for some bring others back.

        Asking everybody after each epoch would cost more than the steps, the more the longer the row of requests is.
        """
        active = self.active(self.place.watched) if self.place.watched else []
        if not active:
            active = self.active()
            self.place.watched = tuple(active)
        return active

    def train(self, on_step: OnStep, precision: Callable[[], Any], file: CheckpointFile | None = None) -> Ended:
        """From the start, or from where `file` was left. Raises Diverged once it has gone back as often as it may."""
        trained = self._trained()
        if self.settings.update_limit is not None:  # before resuming: the base is where the job started
            self.limit = UpdateLimit(list(trained.parameters.values()), self.settings.update_limit)
        if file is not None:
            self._resume(file, trained)
        with precision():
            self._look_at_retain_rows()
        while True:
            try:
                return self._epochs(on_step, precision, trained, file)
            except Diverged as error:
                self._go_back(error, trained)
            except Stopped:
                if file is not None and self.good is not None:
                    file.write(self.good, trained)
                raise

    def _trained(self) -> Trained:
        parameters = {name: one for name, one in self.student.named_parameters() if one.requires_grad}
        groups = [{"params": kind} for kind in in_kinds(list(parameters.values()))]
        optimiser = torch.optim.AdamW(groups, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)
        optimiser.zero_grad(set_to_none=True)  # what the caller's own training may have left
        return Trained(parameters, optimiser)

    def _epochs(
        self, on_step: OnStep, precision: Callable[[], Any], trained: Trained, file: CheckpointFile | None
    ) -> Ended:
        """From the present place to the end. A place between two epochs is kept as good."""
        parameters = list(trained.parameters.values())
        while True:
            active = self._still_known()
            if not active and self.place.exploded_steps:  # a broken LLM has forgotten everything
                raise self._diverged("the loss has exploded")
            spent = self.place.epochs_done == self.settings.epochs
            if (spent or not active) and self._wants_repair():
                self._repair(on_step, precision, trained, len(active))
                continue
            if not active:
                return FORGOTTEN
            if spent:
                return Ended(f"the limit of {self.settings.epochs} epochs", len(self.active()))
            if not self.place.exploded_steps:
                counted = self.method.counted() if isinstance(self.method, Counts) else {}
                self.good = take(replace(self.place, counted=counted), trained)
                if file is not None:
                    file.write_if_due(self.good, trained)
            self.place.repaired = False
            for batch in self._forget_batches(active):
                if self.place.step >= self.steps:
                    return Ended(f"the limit of {self.steps} steps", len(self.active()))
                with precision():
                    self._backward(batch, parameters)
                self._update(trained.optimiser, parameters)
                on_step(self._progress(len(active)))
            self.place.epochs_done += 1

    def _wants_repair(self) -> bool:
        done = self.place.repaired or self.place.repairs == MOST_REPAIRS or not self.place.epochs_done
        return self.repairs and not done

    def _repair(self, on_step: OnStep, precision: Callable[[], Any], trained: Trained, active: int) -> None:
        """Steps on retain rows alone: a job that ends with its last forget step ends at the others' worst moment."""
        parameters = list(trained.parameters.values())
        steps = repair_steps(self.settings, self.place.step)
        for left in range(steps, 0, -1):
            if self.place.step >= self.steps:
                break
            with precision():
                self._backward([], parameters)
            self._update(trained.optimiser, parameters, left / steps)
            on_step(self._progress(active))
        self.place.repairs += 1
        self.place.repaired = True

    def _look_at_retain_rows(self) -> None:
        """What the untouched LLM makes of them, as many together as at a step: later losses are held against it."""
        if self.place.highest_retain_loss is not None or isinstance(self.method, ChoosesWeights):
            return
        first = order(len(self.lessons.retain), self.settings.seed, 0)[:LOOK_ROWS]
        batches = slices([self.lessons.retain[at] for at in first], self.retain_count)
        with torch.no_grad():
            losses = [self.gradients.give([], self._parts(rows), ())[1] for rows in batches]
        self.place.highest_retain_loss = max((one for one in losses if one is not None), default=None)

    def _forget_batches(self, active: Sequence[int]) -> list[Sequence[Row]]:
        rows = [row for item in active for row in self.lessons.rows[item]]
        shuffled = [rows[at] for at in order(len(rows), self.settings.seed, self.place.epochs_done)]
        return slices(shuffled, self.settings.batch_size)

    def _resume(self, file: CheckpointFile, trained: Trained) -> None:
        found = file.find()
        if found is None:
            return
        if not fits(found, trained):
            file.delete()
            return
        self._go_to(divided(found, trained), trained)
        self.resumed_at = found.place.step

    def _go_back(self, error: Diverged, trained: Trained) -> None:
        rollbacks = self.place.rollbacks
        if self.good is None or len(rollbacks) == MOST_ROLLBACKS:
            raise error
        what = str(error).partition(":")[0]
        words = f"{what}: training went back to step {self.good.place.step} and on with half the step size"
        self._go_to(self.good, trained)
        self.place.rollbacks = (*rollbacks, words)

    def _go_to(self, good: GoodStep, trained: Trained) -> None:
        put_back(good, trained)
        self.place = replace(good.place)
        if isinstance(self.method, Counts):
            self.method.count_from(good.place.counted)
        self.retain_order = islice(endless(len(self.lessons.retain), self.settings.seed), self.place.retain_drawn, None)

    def _backward(self, forget_rows: Sequence[Row], parameters: Sequence[Parameter]) -> None:
        """Of these rows and of the retain rows whose turn it is."""
        retain_rows = [self.lessons.retain[at] for at in islice(self.retain_order, self.retain_count)]
        self.place.retain_drawn += len(retain_rows)
        self._judge(*self.gradients.give(self._parts(forget_rows), self._parts(retain_rows), parameters))

    def _judge(self, forget_loss: float | None, retain_loss: float | None) -> None:
        if not math.isfinite((forget_loss or 0.0) + (retain_loss or 0.0)):
            raise self._diverged("the loss is not a number", 1)
        note_losses(self.place, forget_loss, retain_loss)
        if isinstance(self.method, ChoosesWeights):
            self.place.exploded_steps = 0  # losses of a method that steers states are lengths of states, not nats
        if self.place.exploded_steps >= EXPLODED_STEPS:
            raise self._diverged("the loss has exploded", 1)

    def _update(self, optimiser: Optimizer, parameters: Sequence[Parameter], share: float = 1.0) -> None:
        """`share` of the step size that the schedule asks for."""
        step = self.place.step
        norm = clip_gradients(parameters, self.settings.gradient_clip)
        if not bool(torch.isfinite(norm)):
            raise self._diverged("the gradient is not a number", 1)
        share *= step_size_factor(step, self.steps, self.settings) * self.place.rate_share
        for group in optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * share
        optimiser.step()
        if self.limit is not None:
            self.limit.hold()
        optimiser.zero_grad(set_to_none=True)
        self.place.step += 1

    def _diverged(self, what: str, steps_ahead: int = 0) -> Diverged:
        return Diverged(f"{what} at step {self.place.step + steps_ahead}: lower the learning rate")

    def _parts(self, rows: Sequence[Row]) -> list[Batch]:
        return [self._batch(some) for some in slices(rows, self.settings.micro_batch_size or self.settings.batch_size)]

    def _batch(self, rows: Sequence[Row]) -> Batch:
        return collate(rows, self.pad_id, self.student.device)

    def _progress(self, active: int) -> Progress:
        return Progress(
            step=self.place.step,
            steps=self.steps,
            epoch=self.place.epochs_done,
            forget_loss=self.place.forget_loss or 0.0,
            retain_loss=self.place.retain_loss,
            active_items=active,
            items=len(self.lessons.rows),
        )
