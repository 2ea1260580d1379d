"""The moving parts of one call of `unlearn`: which rows come at which step, their gradients, the optimiser's step."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

import torch
from torch.nn import Parameter

from records.params import TrainingParameters
from workers.batches import Row, collate, endless, in_order_of_length, order, slices
from workers.errors import Diverged, UnknownHead, Unsuitable
from workers.evaluation.scoring import score
from workers.lessons import Lessons
from workers.methods.head import UnknownHeadError
from workers.methods.interface import Batch, Losses, Method, WeighsBatches
from workers.methods.layers import UnsuitableError
from workers.stopping import StopRule, active_items

MEMORY_BATCH_ROWS = 32


@dataclass(frozen=True, slots=True)
class Progress:
    """`steps` is the most there can be; the loop often ends sooner."""

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


class TrainingRun:
    """The step count, the last losses and the place in the retain order of one call of `unlearn`."""

    def __init__(
        self,
        student: Any,
        method: Method,
        settings: TrainingParameters,
        lessons: Lessons,
        rule: StopRule,
        tokenizer: Any,
    ) -> None:
        self.student, self.method, self.settings, self.lessons, self.rule = student, method, settings, lessons, rule
        self.pad_id = pad_id_of(tokenizer)
        self.step = self.epochs_done = 0
        self.losses: tuple[float | None, float | None] = (None, None)
        rows = sum(len(windows) for windows in lessons.rows)
        steps = settings.epochs * max(1, math.ceil(rows / settings.batch_size))
        self.steps = min(steps, settings.max_steps or steps)
        self.retain_order: Iterator[int] = endless(len(lessons.retain), settings.seed)

    def prepare(self, teacher: Any) -> None:
        rows = [row for windows in self.lessons.rows for row in windows] + self.lessons.retain
        batches = [self._batch(batch) for batch in in_order_of_length(rows, MEMORY_BATCH_ROWS)]
        try:
            self.method.prepare(teacher, batches, self.rule.level)
        except UnknownHeadError as error:
            raise UnknownHead(str(error)) from error
        except UnsuitableError as error:
            raise Unsuitable(str(error)) from error

    def active(self) -> list[int]:
        scores = score(self.student, [windows for _, windows in self.lessons.judged], self.pad_id)
        if not all(math.isfinite(one.nll) for one in scores):
            # NaN is not above any level: without this a broken LLM would look as if it had forgotten.
            raise Diverged(f"the LLM's probabilities are not numbers at step {self.step}: lower the learning rate")
        return active_items(self.rule, scores, [item for item, _ in self.lessons.judged])

    def train(self, on_step: OnStep, precision: Callable[[], Any]) -> str:
        """Why it stopped, in words."""
        parameters = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(
            parameters, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        optimiser.zero_grad(set_to_none=True)  # what the caller's own training may have left
        for epoch in range(self.settings.epochs):
            active = self.active()
            if not active:
                return "every item is at the never-trained level"
            rows = [row for item in active for row in self.lessons.rows[item]]
            shuffled = [rows[at] for at in order(len(rows), self.settings.seed, epoch)]
            for batch in slices(shuffled, self.settings.batch_size):
                if self.step >= self.steps:
                    return f"the limit of {self.steps} steps"
                with precision():
                    self._backward(batch, parameters)
                self._update(optimiser, parameters)
                on_step(self._progress(epoch, len(active)))
            self.epochs_done = epoch + 1
        return (
            f"the limit of {self.settings.epochs} epochs"
            if self.active()
            else "every item is at the never-trained level"
        )

    def _backward(self, forget_rows: Sequence[Row], parameters: Sequence[Parameter]) -> None:
        """Gradients of the whole batch, a micro batch at a time, each weighed by its share of the labelled tokens."""
        retain_rows = [self.lessons.retain[at] for at in islice(self.retain_order, self.settings.batch_size)]
        size = self.settings.micro_batch_size or self.settings.batch_size
        forget = [self._batch(rows) for rows in slices(forget_rows, size)]
        retain = [self._batch(rows) for rows in slices(retain_rows, size)]
        weigh = self.method.batch_weight if isinstance(self.method, WeighsBatches) else _token_weight
        forget_total, retain_total = sum(map(weigh, forget)), sum(map(weigh, retain))
        forget_loss, retain_loss = 0.0, 0.0
        for forget_part, retain_part in zip_longest(forget, retain):
            losses = self.method.losses(self.student, forget_part, retain_part)
            losses = Losses(
                _share(losses.forget, forget_part, forget_total, weigh),
                _share(losses.retain, retain_part, retain_total, weigh),
            )
            self.method.backward(losses, parameters)
            forget_loss += 0.0 if losses.forget is None else losses.forget.item()
            retain_loss += 0.0 if losses.retain is None else losses.retain.item()
        self.losses = (forget_loss, retain_loss if retain else None)
        if not math.isfinite(forget_loss + retain_loss):
            raise Diverged(f"the loss is not a number at step {self.step + 1}: lower the learning rate")

    def _update(self, optimiser: torch.optim.Optimizer, parameters: Sequence[Parameter]) -> None:
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip)
        if not bool(torch.isfinite(norm)):
            raise Diverged(f"the gradient is not a number at step {self.step + 1}: lower the learning rate")
        for group in optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * step_size_factor(self.step, self.steps, self.settings)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        self.step += 1

    def _batch(self, rows: Sequence[Row]) -> Batch:
        return collate(rows, self.pad_id, self.student.device)

    def _progress(self, epoch: int, active: int) -> Progress:
        forget_loss, retain_loss = self.losses
        return Progress(
            step=self.step,
            steps=self.steps,
            epoch=epoch,
            forget_loss=forget_loss or 0.0,
            retain_loss=retain_loss,
            active_items=active,
            items=len(self.lessons.rows),
        )


def step_size_factor(step: int, steps: int, settings: TrainingParameters) -> float:
    """Share of the learning rate at step 0, 1…: rises over the warm-up, then stays or falls linearly to 0."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    return max(0.0, (steps - step) / max(1, steps - settings.warmup_steps))


def pad_id_of(tokenizer: Any) -> int:
    """Any id will do for padding, since padding is masked."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0)


def _token_weight(batch: Batch) -> float:
    return batch.token_weight


def _share(
    loss: torch.Tensor | None, batch: Batch | None, total: float, weigh: Callable[[Batch], float]
) -> torch.Tensor | None:
    return None if loss is None or batch is None else loss * (weigh(batch) / total)
