"""What the tests of ranks compute on every rank: found by name in each process."""

import os
import resource
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.make_architectures import make_architecture
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from tests.workers.attacks import make_unlearned
from workers.attacks.battery import AttackSettings, Targets, run_attacks
from workers.attacks.quantised import weights_of
from workers.attacks.relearning import Training
from workers.checkpoint import Checkpoint
from workers.errors import Diverged
from workers.loop import UnlearnSummary, UnlearnWork, unlearn
from workers.probes import Probes, split_probes
from workers.save import save_candidate
from workers.sharding import rank, ranks, shard, whole


@dataclass(frozen=True)
class Run:
    """A call of `unlearn` on an LLM that knows its people by heart, or on a random one of an architecture."""

    method: str = "undial"
    parameters: dict[str, Any] = field(default_factory=dict)
    architecture: str | None = None
    dtype: torch.dtype = torch.float32
    left: Path | None = None
    save_to: Path | None = None


Found = tuple[UnlearnSummary, dict[str, torch.Tensor]]


def forgotten(run: Run, say: Any) -> Found:
    """What the loop did, and the whole weights it left."""
    llm, tokenizer = memorised()
    if run.architecture is not None:
        llm = make_architecture(run.architecture)
        llm.resize_token_embeddings(len(tokenizer))
    llm = shard(llm.to(run.dtype), "cpu")
    work = UnlearnWork(
        forget=people(TRAINED[:1]),
        replay=people(TRAINED[1:2]),
        retain=both_phrasings(people(TRAINED[2:])),
        control=people(NEVER_TRAINED),
        control_level=0.02,
        method=run.method,
        parameters={
            "learning_rate": 1e-3,
            "batch_size": 4,
            "epochs": 2,
            "stop_ratio": 0.1,
            "repair_steps": 2,
            "rewordings": 1,
        }
        | run.parameters,
    )
    left = None if run.left is None else Checkpoint(run.left, {"job": "job_1"}, 0.0)
    summary = unlearn(llm, tokenizer, work, lambda at: say(at.step), checkpoint=left)
    if run.save_to is not None:
        save_candidate(llm, run.save_to / "none", run.save_to)
    return summary, {name: whole(one).detach().clone() for name, one in llm.named_parameters()}


def stepped(run: Run, say: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The gradient that each step of the optimiser was given, all parameters in one row, and the weights after them."""
    memorised()  # its own training is none of the steps
    gradients: list[torch.Tensor] = []

    def keep(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        given = [whole(one.grad).detach() for group in optimiser.param_groups for one in group["params"]]
        gradients.append(torch.cat([one.flatten() for one in given]).clone())

    hook = register_optimizer_step_pre_hook(keep)
    try:
        _, weights = forgotten(run, say)
    finally:
        hook.remove()
    return gradients, torch.cat([one.flatten() for one in weights.values()])


def attacked(tuning: str, dtype: torch.dtype, say: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """What the whole battery found, and the weights after it."""
    dev, sealed = split_probes(make_unlearned.FORGET)
    probes = Probes(make_unlearned.FORGET, dev, sealed, people(NEVER_TRAINED))
    settings = AttackSettings(Training(learning_rate=3e-4, tuning=tuning, lora_rank=2), samples=2)
    base, tokenizer = memorised()
    llm = memorised()[0].to(dtype)
    llm = shard(llm if ranks() == 1 else llm.float(), "cpu")
    before = weights_of(base.to(dtype))
    targets = Targets(probes, make_unlearned.OTHERS)
    done = run_attacks(lambda: llm, lambda: llm, tokenizer, targets, settings, say, None, before)
    return done.attacks, {name: whole(one).detach().clone() for name, one in llm.named_parameters()}


def counted(say: Any) -> tuple[int, int]:
    say(0.5)
    return rank(), ranks()


def core_limits(say: Any) -> list[tuple[int, int]]:
    """Of every rank."""
    say(0.5)
    found: list[Any] = [None] * ranks()
    dist.all_gather_object(found, resource.getrlimit(resource.RLIMIT_CORE))
    return found


def diverging(say: Any) -> None:
    """Fails on every rank alike."""
    say(0.5)
    raise Diverged("on purpose")


def failing_alone(say: Any) -> None:
    """Fails on one rank, while the others wait for it."""
    if rank() == 1:
        raise MemoryError
    say(0.5)
    torch.distributed.barrier()


def dying_alone(say: Any) -> None:
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    say(0.5)
    torch.distributed.barrier()
