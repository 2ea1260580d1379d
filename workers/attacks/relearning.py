"""What a few training steps bring back: the LLM is trained meanwhile, and is the very same afterwards.

    L = Σ_n -log p(label_n) / N        over the N labelled tokens of a batch, answers and their ends alike

Ordinary fine-tuning by AdamW, of all weights or of adapters that are merged before anything is asked. Its step size
is the one that the LLM was unlearned with, PUBLISHED_RATE at least: whoever can undo a job with no more effort than
the job itself took has been given the data back. On LLMs of useful size that is what published attacks use; on very
small ones PUBLISHED_RATE alone moves nothing.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import torch

from records.params import TrainingParameters
from workers.adapters import add_lora, merge_lora
from workers.batches import Encoded, Row, collate, endless, slices
from workers.errors import Diverged
from workers.examples import Example, fitting_windows
from workers.methods.answers import answers
from workers.recompute import recomputed_layers
from workers.sharding import average_whole_gradients, cast, clip_gradients, in_kinds, local, train_only

PUBLISHED_RATE = 2e-5
PUBLISHED_ADAPTER_RATE = 1e-4
TRIES, CUT = 3, 0.25
MOST_LOST_NATS = 0.5  # further above its first loss than this, training has damaged the LLM and taught it nothing


@dataclass(frozen=True, slots=True)
class Training:
    """How the attacker trains. `micro_batch_size` None: a batch at once."""

    learning_rate: float = PUBLISHED_RATE
    tuning: Literal["full", "lora"] = "full"
    lora_rank: int = 8
    lora_alpha: float = 16.0
    micro_batch_size: int | None = None
    gradient_checkpointing: bool = False
    gradient_clip: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """Mean losses of the first step and of the last quarter, nats per token; the step size at which training held."""

    steps: int
    learning_rate: float
    first_loss: float
    last_loss: float


OnStep = Callable[[], None]


def training_like(parameters: TrainingParameters) -> Training:
    """The job's own step size and memory savings. A job that trained a part of the weights is attacked by adapters,
    since all of them may not fit.
    """
    full = parameters.tuning == "full"
    least = PUBLISHED_RATE if full else PUBLISHED_ADAPTER_RATE
    return Training(
        learning_rate=max(least, parameters.learning_rate),
        tuning="full" if full else "lora",
        micro_batch_size=parameters.micro_batch_size,
        gradient_checkpointing=parameters.gradient_checkpointing,
        seed=parameters.seed,
    )


def training_rows(examples: Sequence[Example], tokenizer: Any, context_tokens: int) -> list[Encoded]:
    """Answers and their ends are labelled. A row that does not fit is left out, as it is when it is asked."""
    return [window for one in examples for window in fitting_windows(one, tokenizer, context_tokens, label_end=True)]


@contextmanager
def relearned(
    llm: Any, rows: Sequence[Encoded], steps: int, batch_size: int, training: Training, pad_id: int, on_step: OnStep
) -> Iterator[Trained]:
    """Meanwhile the LLM has had `steps` on `rows`, in an order decided by the seed, each row once a round.

    Training that diverges begins anew, twice, with a quarter of the step size; then it raises Diverged, and without
    rows or steps ValueError. What `on_step` raises passes. Whatever happens, weights, dtype and trainability are as
    before afterwards.
    """
    batches = list(islice(_batches(rows, batch_size, training.seed), steps))
    if not batches:
        raise ValueError("nothing to train on: give at least one row and one step")
    kept = {name: local(one.detach()).to("cpu", copy=True) for name, one in llm.named_parameters()}
    dtypes = {name: one.dtype for name, one in llm.named_parameters()}
    buffers = {name: one.detach().clone() for name, one in llm.named_buffers()}
    trainable = {name: one.requires_grad for name, one in llm.named_parameters()}

    def restore() -> None:
        cast(llm, dtypes)
        with torch.no_grad():
            for name, one in llm.named_parameters():
                local(one).copy_(kept[name])
                one.grad = None
        train_only(llm, trainable)
        for name, one in llm.named_buffers():
            one.data = buffers[name].clone()

    try:
        yield _until_it_holds(llm, batches, training, pad_id, on_step, restore)
    finally:
        restore()


def _batches(rows: Sequence[Encoded], size: int, seed: int) -> Iterator[list[Row]]:
    drawn = endless(len(rows), seed)
    while batch := [Row(at, rows[at]) for at in islice(drawn, size)]:
        yield batch


def _until_it_holds(
    llm: Any,
    batches: Sequence[Sequence[Row]],
    training: Training,
    pad_id: int,
    on_step: OnStep,
    restore: Callable[[], None],
) -> Trained:
    rate = training.learning_rate
    for left in range(TRIES - 1, -1, -1):
        try:
            return _judged(_tuned(llm, batches, training, rate, pad_id, on_step), rate)
        except Diverged:
            if not left:
                raise
        restore()
        rate *= CUT
    raise AssertionError("unreachable: the last try returns or raises")


def _judged(losses: Sequence[float], rate: float) -> Trained:
    last = losses[-max(1, len(losses) // 4) :]
    found = Trained(len(losses), rate, losses[0], math.fsum(last) / len(last))
    if found.last_loss > found.first_loss + MOST_LOST_NATS:
        raise Diverged(f"training further only raised the loss with a step size of {rate:g}")
    return found


def _tuned(
    llm: Any, batches: Sequence[Sequence[Row]], training: Training, rate: float, pad_id: int, on_step: OnStep
) -> list[float]:
    """fp32 weights while they are trained, the stored dtypes again while the LLM is asked; half-precision products only
    on a GPU and for an LLM that is stored so. Buffers, such as the frequencies of positions, keep their own dtype.
    """
    stored = {name: one.dtype for name, one in llm.named_parameters()}
    on_gpu, half = llm.device.type == "cuda", llm.dtype in {torch.float16, torch.bfloat16}
    if training.tuning == "full" or not on_gpu:
        cast(llm, dict.fromkeys(stored, torch.float32))
    saving = recomputed_layers(llm) if training.gradient_checkpointing else nullcontext()
    precision = torch.autocast(llm.device.type, dtype=torch.bfloat16, enabled=on_gpu and half)
    with _adapted(llm, training), saving, precision:
        losses = _steps(llm, batches, training, rate, pad_id, on_step)
    cast(llm, stored)
    return losses


@contextmanager
def _adapted(llm: Any, training: Training) -> Iterator[None]:
    """With adapters, if wished for; merged at the end, or dropped after an error."""
    if training.tuning == "full":
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        wrapper = add_lora(llm, training.lora_rank, training.lora_alpha, "all-linear")
    try:
        yield
    except BaseException:
        wrapper.unload()
        raise
    merge_lora(wrapper)


def _steps(
    llm: Any, batches: Sequence[Sequence[Row]], training: Training, rate: float, pad_id: int, on_step: OnStep
) -> list[float]:
    llm.eval()
    parameters = [one for one in llm.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW([{"params": kind} for kind in in_kinds(parameters)], lr=rate, weight_decay=0.0)
    optimiser.zero_grad(set_to_none=True)
    losses = []
    for batch in batches:
        losses.append(_backward(llm, batch, training, pad_id))
        average_whole_gradients(parameters)
        norm = clip_gradients(parameters, training.gradient_clip)
        if not math.isfinite(losses[-1]) or not bool(torch.isfinite(norm)):
            raise Diverged(f"training further diverged at step {len(losses)} with a step size of {rate:g}")
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        on_step()
    return losses


def _backward(llm: Any, batch: Sequence[Row], training: Training, pad_id: int) -> float:
    """Gradients of the mean over the whole batch's labelled tokens, a micro batch at a time."""
    total, loss = sum(row.encoded.labelled_tokens for row in batch), 0.0
    for part in slices(batch, training.micro_batch_size or len(batch)):
        share = answers(llm, collate(part, pad_id, llm.device)).nll_N.sum() / total
        share.backward()
        loss += share.item()
    return loss
