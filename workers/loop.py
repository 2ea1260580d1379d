"""The one training loop: every method runs in it, on every forget item until that item is forgotten.

Each epoch asks which items are still known and trains on those alone, each batch beside one of retain rows, until none
is left; then, if wished for, come steps on retain rows alone, and all are asked again. Weights are fp32 while they are
trained and are rounded once, at the end, to the stored dtype. The student is changed in place; after an error it is
half-way and must be thrown away.
"""

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from records.params import TrainingParameters, parse_parameters
from workers.adapters import add_lora, merge_lora
from workers.batches import pad_id_of
from workers.checkpoint import Checkpoint, CheckpointFile
from workers.errors import OutOfMemory, Unsuitable, is_out_of_memory
from workers.fit import pass_tokens
from workers.lessons import UnlearnWork, plan_lessons
from workers.methods import METHODS
from workers.methods.interface import ChoosesWeights, Explains, Findings, Method
from workers.methods.layers import UnsuitableError, decoder_layers, weight_names
from workers.own_levels import with_own_levels
from workers.recompute import recomputed_layers
from workers.row_tokens import row_tokens
from workers.schedule import with_repairs
from workers.self_sampled import own_texts
from workers.sharding import cast, ranks, train_only
from workers.stopping import stop_rule
from workers.training_run import Ended, OnStep, Progress, TrainingRun

__all__ = ["Checkpoint", "Progress", "TeacherSource", "UnlearnSummary", "UnlearnWork", "unlearn"]

TeacherSource = Callable[[], Any]
MOST_RETAIN_ROWS = 4096


@dataclass(frozen=True, slots=True)
class UnlearnSummary:
    """What the loop did. `known_items` are those it could not bring to the never-trained level; `rollbacks` counts
    how often it went back to a good step; `findings` are what the method says of its own choices.
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
    rollbacks: int
    notes: tuple[str, ...]
    findings: Mapping[str, Any] = field(default_factory=dict)


def unlearn(  # the last two are for the few who need them
    student: Any,
    tokenizer: Any,
    work: UnlearnWork,
    on_step: OnStep,
    teacher: TeacherSource | None = None,
    checkpoint: Checkpoint | None = None,
) -> UnlearnSummary:
    """Make `student` forget. `teacher` loads the LLM that the losses compare with, such as the first version; it is let
    go before the first step. None: the student as it is now.

    With a `checkpoint`, a call that was killed is gone on with by the same call on the same, unchanged student.

    Raises Cancelled (from `on_step`), Diverged, OutOfMemory, ExampleTooLong, UnknownHead, Unsuitable.
    """
    started = time.monotonic()
    sampled_note: tuple[str, ...] = ()
    settings = parse_parameters(work.method, work.parameters)
    method = _method_on_these_ranks(work.method, settings)
    context_tokens = work.context_tokens or context_of(student)
    with _memory_errors_in_words(), _training(student, settings) as precision:
        wanted = most_retain_rows(work, settings) if method.wants_retain else 0
        if wanted and (settings.retain_source == "sampled" or not work.retain):
            with precision():
                work, sampled_note = _with_own_texts(student, tokenizer, work, wanted, context_tokens, settings.seed)
        lessons = plan_lessons(work, tokenizer, context_tokens, wanted, settings.seed)
        if settings.stop_level == "own":
            with precision():
                most_tokens = pass_tokens(settings, row_tokens(lessons).longest)
                lessons = with_own_levels(lessons, student, tokenizer, work.control, context_tokens, most_tokens)
        rule = stop_rule(work.control_level, settings.stop_ratio)
        run = TrainingRun(student, method, settings, lessons, rule, pad_id_of(tokenizer))
        with precision():
            _prepare(run, teacher, settings)
        wrapper = _adapters(student, settings)
        with _only(student, _chosen(student, method, settings)), _memory_saved(student, settings):
            ended = run.train(on_step, precision, _file(checkpoint, run, work.method))
        if wrapper is not None:
            merge_lora(wrapper)
    return _summary(run, ended, time.monotonic() - started, sampled_note)


def most_retain_rows(work: UnlearnWork, settings: TrainingParameters) -> int:
    """As many as the steps can take, within reason: a teacher reads each of them before the first step."""
    steps = settings.epochs * math.ceil(max(1, len(work.forget) + len(work.replay)) / settings.batch_size)
    steps = with_repairs(settings, steps)
    return min(MOST_RETAIN_ROWS, steps * (settings.retain_batch_size or settings.batch_size))


def _with_own_texts(
    student: Any, tokenizer: Any, work: UnlearnWork, count: int, context_tokens: int, seed: int
) -> tuple[UnlearnWork, tuple[str, ...]]:
    gone = [*work.items, *work.unspoken]
    own = own_texts(student, tokenizer, gone, count, context_tokens, seed, work.kept)
    return replace(work, retain=own.examples), (own.note,)


def make_method(name: str, settings: TrainingParameters) -> Method:
    """The method's constructor gets the settings it names, and no others."""
    wanted = inspect.signature(METHODS[name]).parameters
    return METHODS[name](**{field: getattr(settings, field) for field in wanted})


def _method_on_these_ranks(name: str, settings: TrainingParameters) -> Method:
    """Raises Unsuitable before it prepares: what such a method looks at then is whole on no rank."""
    method = make_method(name, settings)
    if ranks() > 1 and isinstance(method, ChoosesWeights):
        raise Unsuitable("this method works in one process alone: set LETHE_WORKER_PROCESSES=1, or choose another")
    return method


def context_of(llm: Any) -> int:
    """Tokens the LLM can read at once; many when its configuration names no limit."""
    return configured_context(llm.config)


def configured_context(config: Any) -> int:
    """As `context_of`, of an LLM that is not loaded. Bloom and others with relative positions name no limit."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1_000_000)


def _summary(run: TrainingRun, ended: Ended, seconds: float, first_notes: tuple[str, ...]) -> UnlearnSummary:
    found = run.method.findings() if isinstance(run.method, Explains) else Findings()
    return UnlearnSummary(
        steps=run.place.step,
        epochs=run.place.epochs_done,
        seconds=seconds,
        items=len(run.lessons.rows),
        known_items=ended.known,
        stopped=ended.why,
        forget_loss=run.place.forget_loss,
        retain_loss=run.place.retain_loss,
        retain_rows=len(run.lessons.retain),
        stop_level=run.rule.level * run.rule.ratio,
        rollbacks=len(run.place.rollbacks),
        notes=(*first_notes, *_notes(run), *found.notes),
        findings=dict(found.numbers),
    )


def _notes(run: TrainingRun) -> tuple[str, ...]:
    resumed = (f"training was interrupted and went on from step {run.resumed_at}",) if run.resumed_at else ()
    alone = run.method.wants_retain and not run.lessons.retain
    unheld = ("no retain rows could be had: nothing held the rest of the LLM in place",) if alone else ()
    limited = (run.limit.note(),) if run.limit is not None and run.place.step else ()
    return (*run.lessons.notes, *resumed, *run.place.rollbacks, *unheld, *limited)


def _file(checkpoint: Checkpoint | None, run: TrainingRun, method: str) -> CheckpointFile | None:
    return None if checkpoint is None else CheckpointFile(checkpoint, run.digest(method))


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
    before = {name: one.requires_grad for name, one in student.named_parameters()}
    train_only(student, {name: flag and (names is None or name in names) for name, flag in before.items()})
    try:
        yield
    finally:
        train_only(student, before)


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


def _prepare(run: TrainingRun, teacher: TeacherSource | None, settings: TrainingParameters) -> None:
    """By the memory that the steps take: a method may look at gradients of the whole LLM before them."""
    teaching = run.student if teacher is None else teacher()
    if teaching is not run.student:
        own = {name: one.dtype for name, one in run.student.named_parameters()}
        _cast(teaching, {name: own.get(name, run.student.dtype) for name, _ in teaching.named_parameters()})
    with _memory_saved(teaching, settings):
        run.prepare(teaching)


def _adapters(student: Any, settings: TrainingParameters) -> Any:
    if settings.tuning != "lora":
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return add_lora(student, settings.lora_rank, settings.lora_alpha, settings.lora_targets)


@contextmanager
def _training(student: Any, settings: TrainingParameters) -> Iterator[Callable[[], Any]]:
    """fp32 weights, no dropout; half-precision matmuls only on a GPU and for a version stored in half precision.

    Adapters on a GPU leave the frozen weights in their own dtype. Afterwards each is rounded to its own.
    """
    _refuse_quantised(student)
    stored = {name: one.dtype for name, one in student.named_parameters()}
    on_gpu = student.device.type == "cuda"
    half = on_gpu and student.dtype in {torch.float16, torch.bfloat16}
    student.eval()
    if settings.tuning != "lora" or not on_gpu:
        _cast(student, dict.fromkeys(stored, torch.float32))

    def precision() -> Any:
        return torch.autocast(student.device.type, dtype=torch.bfloat16, enabled=half)

    yield precision
    _cast(student, stored)


def _refuse_quantised(student: Any) -> None:
    """Its numbers are codes: cast like weights they would be another LLM's, and nothing would show it."""
    codes = any(not one.is_floating_point() for one in student.parameters())
    if codes or getattr(student, "is_quantized", False):
        raise Unsuitable("the LLM's weights are quantised, which cannot be trained: load it without quantisation")


def _cast(llm: Any, dtypes: Mapping[str, torch.dtype]) -> None:
    """Parameters alone, which are of one dtype where an LLM is divided. Buffers keep theirs: with the frequencies of
    positions rounded to half precision an LLM would take far positions for others.
    """
    if ranks() == 1:
        cast(llm, dtypes)
        return
    buffers = dict(llm.named_buffers())
    llm.to(next(iter(dtypes.values())))
    for name, one in llm.named_buffers():
        one.data = buffers[name]


@contextmanager
def _memory_errors_in_words() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            "the step did not fit in memory: set a smaller micro_batch_size, or tuning to lora or named"
        ) from error
