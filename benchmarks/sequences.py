"""Does forgetting hold when people ask one after another? `make bench-sequences`, or a part of it

    python -m benchmarks.sequences --world tofu --strategies default,no-replay --seeds 1,2 --requests 50 --processes 2

A world and an LLM that learnt it by heart (`benchmarks.worlds`); one person a request, forgotten by
`workers.loop.unlearn` from the version before, as the service would, though without it. After each request those
forgotten so far are asked, and at some places everybody (`EVERYBODY_AT`). One JSON line a request goes to
out/sequences.jsonl as it is measured. One strategy with one seed is a sequence, which one process runs from its
beginning: run again, whole sequences are not repeated and broken ones begin anew.
`python -m benchmarks.sequences_summary` makes the tables and the curves of it.
"""

import argparse
import copy
import functools
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.levels import level, levels
from benchmarks.sequence_lines import LINES, Line, Task, finished, write
from benchmarks.sequence_strategies import STRATEGIES, Strategy, make_anchors
from benchmarks.tofu import add_tofu_argument
from benchmarks.worlds import WORLDS, World, make_world
from records.params import parse_parameters
from workers.examples import Example
from workers.loop import UnlearnSummary, UnlearnWork, unlearn
from workers.plan import REPLAY_ROWS, consolidation_due, hold_out
from workers.probes import split_each

# Asking everybody takes about as long as a short job.
EVERYBODY_AT = frozenset({0, 1, 2, 5, 10, 15, 20, 25, 30, 40, 50})


def main() -> None:
    chosen = _arguments()
    chosen.lines.parent.mkdir(parents=True, exist_ok=True)
    done = finished(chosen.lines)
    tasks = [Task(chosen.world, chosen.requests, name, seed) for seed in chosen.seeds for name in chosen.strategies]
    tasks = [task for task in tasks if task not in done]
    pool = ProcessPoolExecutor(chosen.processes, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    with pool:
        one_a_seed = {task.seed: task for task in tasks}.values()
        for _ in pool.map(functools.partial(prepare, chosen.tofu), one_a_seed):
            pass  # the LLMs are on the disk before two sequences of a seed ask for the same
        running = [pool.submit(measure, chosen.tofu, chosen.lines, task) for task in tasks]
        for sequence in as_completed(running):
            sequence.result()


def prepare(tofu: Path, task: Task) -> None:
    make_world(task.world, task.seed, task.wanted, tofu)


def measure(tofu: Path, lines: Path, task: Task) -> None:
    world = make_world(task.world, task.seed, task.wanted, tofu)
    for line in run(world, STRATEGIES[task.strategy]):
        write(lines, task, line)


def run(world: World, strategy: Strategy) -> Iterator[Line]:
    """One line before the first request, then one after each job.

    `seconds`, `steps` and `rows`, those that got a gradient, are of all that the job did; `asking_seconds` are what
    asking for the levels took.
    """
    llm, forgotten, consolidated = copy.deepcopy(world.llm), 0, 0
    every = parse_parameters(strategy.method, strategy.parameters).consolidate_every
    anchors = make_anchors(strategy.anchors, world.llm, world.tokenizer, kept_rows(world, 0, strategy), world.seed)
    yield {"requests": 0, "levels": levels(world, llm, 0, 1, everybody=True)}
    while forgotten < len(world.asking):
        before, forgotten = forgotten, min(forgotten + strategy.together, len(world.asking))
        started = time.monotonic()
        which = range(before, forgotten)
        if consolidation_due(forgotten, consolidated, every):
            llm, which, consolidated = copy.deepcopy(world.llm), range(forgotten), forgotten
        summary, rows = forget(world, strategy, llm, which, anchors)
        ended = time.monotonic()
        everybody = forgotten == len(world.asking) or not EVERYBODY_AT.isdisjoint(range(before + 1, forgotten + 1))
        yield {
            "requests": forgotten,
            "seconds": round(ended - started, 2),
            "steps": summary.steps,
            "rows": rows,
            "known_items": summary.known_items,
            "levels": levels(world, llm, forgotten, forgotten - before, everybody),
            "asking_seconds": round(time.monotonic() - ended, 2),
        }


def forget(
    world: World, strategy: Strategy, llm: Any, which: range, anchors: Sequence[Example]
) -> tuple[UnlearnSummary, int]:
    """One job and the rows it trained on, planned as `workers.plan` does: a tenth of the retain rows is never trained
    on, half of the held phrasings guide the stop, and whoever asked before is replayed and never kept."""
    rows, guides, _ = split_each((world.asking[at].rows, world.seed) for at in which)
    earlier = [row for at in reversed(range(which.start)) for row in world.asking[at].rows]
    gone = {person.subject for person in world.asking[: which.stop]}
    work = UnlearnWork(
        forget=rows,
        retain=kept_rows(world, which.stop, strategy) + [anchor for anchor in anchors if anchor.subject not in gone],
        dev_probes=guides,
        replay=earlier[:REPLAY_ROWS] if strategy.replay else (),
        control=world.control,
        control_level=level(world, llm, world.control).probability,
        method=strategy.method,
        parameters={**strategy.parameters, "seed": world.seed},
    )
    original = parse_parameters(work.method, work.parameters).teacher == "original"
    with trained_rows(llm) as counts:
        summary = unlearn(llm, world.tokenizer, work, lambda _: None, (lambda: world.llm) if original else None)
    return summary, sum(counts)


def kept_rows(world: World, forgotten: int, strategy: Strategy) -> list[Example]:
    """The strategy's pool without whoever asked to be forgotten, and without the tenth that a job only asks; general
    knowledge besides, if the strategy wants it."""
    gone = {person.subject for person in world.asking[:forgotten]}
    pool = world.retain if strategy.pool == "retain" else dict.fromkeys((*world.training, *world.retain))
    kept = hold_out([row for row in pool if row.subject not in gone])[1]
    return [*kept, *(world.utility_anchors if strategy.general else ())]


@contextmanager
def trained_rows(llm: Any) -> Iterator[list[int]]:
    """Fills the list with the rows of each batch that `llm` reads with gradients, whatever the loop makes of them."""
    counts: list[int] = []

    def count(_module: Any, inputs: tuple[Any, ...], _output: Any) -> None:
        if torch.is_grad_enabled():
            counts.append(len(inputs[0]))

    hook = llm.get_input_embeddings().register_forward_hook(count)
    try:
        yield counts
    finally:
        hook.remove()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--world", choices=WORLDS, default="demo")
    parser.add_argument("--strategies", type=_names, help="default: all that fit the world")
    parser.add_argument("--seeds", type=lambda words: [int(word) for word in words.split(",")], default=[1])
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1, help="each of one thread")
    parser.add_argument("--lines", type=Path, default=LINES)
    add_tofu_argument(parser)
    chosen = parser.parse_args()
    fitting = [name for name, one in STRATEGIES.items() if chosen.world == "demo" or one.anchors == "none"]
    chosen.strategies = chosen.strategies or fitting
    if not set(chosen.strategies) <= set(fitting):
        parser.error("anchors are made of prompts that name their subject; TOFU's do not: leave those strategies out")
    return chosen


def _names(words: str) -> list[str]:
    names = words.split(",")
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no strategy {', '.join(unknown)}: there are {', '.join(STRATEGIES)}")
    return names


if __name__ == "__main__":
    main()
