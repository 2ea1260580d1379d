"""The one training loop: every method runs in it, on every forget item until that item is forgotten.

Each epoch asks which items are still known and trains on those alone, each batch beside one of retain rows; it ends
when none is left. Weights are fp32 while they are trained and are rounded once, at the end, to the stored dtype.
The student is changed in place; after an error it is half-way and must be thrown away.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest
from typing import Any

import torch
from torch.nn import Parameter

from records.params import TrainingParameters, parse_parameters
from workers.adapters import add_lora, merge_lora
from workers.batches import Row, collate, endless, in_order_of_length, order, slices
from workers.errors import Diverged, OutOfMemory, UnknownHead, Unsuitable
from workers.evaluation.scoring import score
from workers.lessons import Lessons, UnlearnWork, plan_lessons
from workers.methods import METHODS
from workers.methods.head import UnknownHeadError
from workers.methods.interface import (
    Batch,
    ChoosesWeights,
    Explains,
    Findings,
    Losses,
    Method,
    WeighsBatches,
)
from workers.methods.layers import UnsuitableError, decoder_layers, weight_names
from workers.recompute import recomputed_layers
from workers.self_sampled import own_texts
from workers.stopping import StopRule, active_items, stop_rule

__all__ = ["Progress", "UnlearnSummary", "UnlearnWork", "unlearn"]

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


@dataclass(frozen=True, slots=True)
class UnlearnSummary:
    """What the loop did. `known_items` are those it could not bring to the never-trained level; `findings` are
    what the method says of its own choices.
    """

    steps: int
    epochs: int
    seconds: float
    items: int
    known_items: int
    stopped: str
    forget_loss: float | None
    retain_loss: float | None
    retain_rows: int
    stop_level: float
    notes: tuple[str, ...]
    findings: Mapping[str, Any] = field(default_factory=dict)


OnStep = Callable[[Progress], None]


def unlearn(student: Any, tokenizer: Any, work: UnlearnWork, on_step: OnStep, teacher: Any = None) -> UnlearnSummary:
    """Make `student` forget. `teacher` None: the student as it is now; else a frozen LLM, such as the first version.

    Raises Cancelled (from `on_step`), Diverged, OutOfMemory, ExampleTooLong, UnknownHead, Unsuitable.
    """
    started = time.monotonic()
    sampled_note: tuple[str, ...] = ()
    settings = parse_parameters(work.method, work.parameters)
    method = make_method(work.method, settings)
    context_tokens = work.context_tokens or context_of(student)
    with _memory_errors_in_words(), _training(student, settings) as precision:
        batch_steps = settings.epochs * math.ceil(max(1, len(work.forget) + len(work.replay)) / settings.batch_size)
        wanted = batch_steps * settings.batch_size if method.wants_retain else 0
        if wanted and (settings.retain_source == "sampled" or not work.retain):
            with precision():
                work, sampled_note = _with_own_texts(student, tokenizer, work, wanted, context_tokens, settings.seed)
        lessons = plan_lessons(work, tokenizer, context_tokens, wanted, settings.seed)
        run = _Run(student, method, settings, lessons, stop_rule(work.control_level, settings.stop_ratio), tokenizer)
        with precision():
            run.prepare(student if teacher is None else teacher)
        wrapper = _adapters(student, settings)
        with _only(student, _chosen(student, method, settings)), _memory_saved(student, settings):
            stopped = run.train(on_step, precision)
        known = len(run.active())
        if wrapper is not None:
            merge_lora(wrapper)
    found = method.findings() if isinstance(method, Explains) else Findings()
    notes = (*sampled_note, *lessons.notes, *found.notes)
    if method.wants_retain and not lessons.retain:
        notes = (*notes, "no retain rows could be had: nothing held the rest of the LLM in place")
    return run.summary(stopped, known, time.monotonic() - started, replace(found, notes=notes))


def _with_own_texts(
    student: Any, tokenizer: Any, work: UnlearnWork, count: int, context_tokens: int, seed: int
) -> tuple[UnlearnWork, tuple[str, ...]]:
    own = own_texts(student, tokenizer, [*work.forget, *work.replay], count, context_tokens, seed)
    return replace(work, retain=own.examples), (own.note,)


def make_method(name: str, settings: TrainingParameters) -> Method:
    """The method's constructor gets the settings it names, and no others."""
    wanted = inspect.signature(METHODS[name]).parameters
    return METHODS[name](**{field: getattr(settings, field) for field in wanted})


def context_of(llm: Any) -> int:
    """Tokens the LLM can read at once; many when its configuration names no limit."""
    return int(getattr(llm.config.get_text_config(), "max_position_embeddings", None) or 1_000_000)


class _Run:
    """The moving parts of one call of `unlearn`: the optimiser, the step count, the last losses."""

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

    def summary(self, stopped: str, known: int, seconds: float, found: Findings) -> UnlearnSummary:
        return UnlearnSummary(
            steps=self.step,
            epochs=self.epochs_done,
            seconds=seconds,
            items=len(self.lessons.rows),
            known_items=known,
            stopped=stopped,
            forget_loss=self.losses[0],
            retain_loss=self.losses[1],
            retain_rows=len(self.lessons.retain),
            stop_level=self.rule.level * self.rule.ratio,
            notes=found.notes,
            findings=dict(found.numbers),
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


def _chosen(student: Any, method: Method, settings: TrainingParameters) -> tuple[str, ...] | None:
    """Names of the only parameters to train; None for all that are trainable."""
    if isinstance(method, ChoosesWeights):
        return method.chosen_weights()
    if settings.tuning != "named":
        return None
    try:
        layers = settings.trained_layers or range(len(decoder_layers(student)))
        return weight_names(student, layers, settings.trained_modules)
    except UnsuitableError as error:
        raise Unsuitable(str(error)) from error


@contextmanager
def _only(student: Any, names: tuple[str, ...] | None) -> Iterator[None]:
    """Freeze every other parameter meanwhile, so that no gradient is computed or kept for it."""
    others = [one for name, one in student.named_parameters() if names is not None and name not in names]
    before = [one.requires_grad for one in others]
    for one in others:
        one.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        for one, trainable in zip(others, before, strict=True):
            one.requires_grad_(requires_grad=trainable)


@contextmanager
def _memory_saved(student: Any, settings: TrainingParameters) -> Iterator[None]:
    if not settings.gradient_checkpointing:
        yield
        return
    try:
        with recomputed_layers(student):
            yield
    except UnsuitableError as error:
        raise Unsuitable(str(error)) from error


def _adapters(student: Any, settings: TrainingParameters) -> Any:
    if settings.tuning != "lora":
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return add_lora(student, settings.lora_rank, settings.lora_alpha, settings.lora_targets)


@contextmanager
def _training(student: Any, settings: TrainingParameters) -> Iterator[Callable[[], Any]]:
    """fp32 weights, no dropout; half-precision matmuls only on a GPU and for a version stored in half precision.

    Adapters on a GPU leave the frozen weights in their own dtype. Afterwards all are rounded to that dtype.
    """
    stored, on_gpu = student.dtype, student.device.type == "cuda"
    student.eval()
    if settings.tuning != "lora" or not on_gpu:
        student.float()
    half = on_gpu and stored in {torch.float16, torch.bfloat16}

    def precision() -> Any:
        return torch.autocast(student.device.type, dtype=torch.bfloat16, enabled=half)

    yield precision
    student.to(stored)


@contextmanager
def _memory_errors_in_words() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = str(error)
        starved = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in words
        if not starved:
            raise
        raise OutOfMemory(
            "the step did not fit in memory: set a smaller micro_batch_size, or tuning to lora or named"
        ) from error
