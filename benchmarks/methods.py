"""What does each method leave of the forgotten, and of everybody else? `make bench-methods`, or a part of it

    python -m benchmarks.methods --methods undial,npo --rates 1e-4,1e-3 --seeds 1 --processes 2

A small Llama that has learnt two dozen of TOFU's authors by heart (`benchmarks.tofu`); three are forgotten by
`workers.loop.unlearn`, by every method at every step size, and everybody is asked. Of the others one half is the retain
dataset, the other half is in none. The oracle is the same LLM taught without the three, from another random start than
any it is compared with: what retraining would give.

Every method runs twice. `stopped` is the product: its defaults and the loop's stop at the never-trained level. `fixed`
is a fixed number of epochs, the losses without the bounds we added (`UNBOUNDED`) and no stop, as such methods are
usually run and compared.

One JSON line a run goes to out/methods.jsonl as it is measured; what stands there already is not run again.
`python -m benchmarks.methods_summary` makes the tables and the plots of it.
"""

import argparse
import copy
import functools
import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.levels import level
from benchmarks.sequence_strategies import UNPULLED
from benchmarks.tofu import (
    LARGE,
    Author,
    Size,
    add_tofu_argument,
    make_tofu_llm,
    paraphrases_of,
    read_tofu,
    rows_of,
    shorten,
    shorten_all,
    split_authors,
    subset,
    tofu_tokenizer,
)
from lethe.demo.llm import LlmRecipe
from records.params import ENTRIES
from workers.errors import Diverged
from workers.examples import Example
from workers.load import load_llm
from workers.loop import UnlearnWork, unlearn

OUT = Path("out")
LINES = OUT / "methods.jsonl"
ARMS = ("stopped", "fixed")
SEEDS = (1, 2, 3)
# One grid for all: three decades, from where an LLM of this size hardly moves to past the 3e-3 that it learnt with.
RATES = (1e-5, 1e-4, 1e-3, 1e-2)

FORGET_AUTHORS = 3
FACTS = 40
FIXED_EPOCHS = 30
SIZE = Size(24, 4, 16, LlmRecipe(vocabulary=1000, hidden=64, layers=4, heads=4, intermediate=176, steps=300))

ASCENTS = ("gradient_ascent", "ascent_descent", "ascent_descent_general", "ascent_kl", "ascent_kl_general")
UNBOUNDED: Mapping[str, Mapping[str, Any]] = {name: {"ceiling": None} for name in ASCENTS}
# The stop can be lowered, not switched off: a token probability of 1e-7 is below anything worth forgetting.
NEVER: Mapping[str, Any] = {"stop_ratio": 0.1, "epochs": FIXED_EPOCHS}


@dataclass(frozen=True)
class Variant:
    method: str
    parameters: Mapping[str, Any]


VARIANTS: Mapping[str, Variant] = {
    **{str(name): Variant(str(name), {}) for name in ENTRIES},
    "undial": Variant("undial", UNPULLED),
    # What a job does unless told otherwise: UnDIAL pulled to each answer's own level.
    "undial_own": Variant("undial", {}),
    # As published: no retain rows, to stand beside plain ascent.
    "undial_alone": Variant("undial", {**UNPULLED, "retain_kind": "none"}),
    # A quarter of four layers is the first, and the papers' weights hold so small an LLM fast: later, and held less.
    "rmu_loose": Variant("rmu", {"layer": 2, "retain_weight": 1.0}),
    "falcon_loose": Variant("falcon", {"layer": 2, "retain_weight": 10.0}),
}


@dataclass(frozen=True)
class World:
    """One seed's authors and LLMs. `kept` are the retain dataset, `others` are in none; of `facts` one half is general
    text to retain, the other is only asked."""

    seed: int
    tokenizer: Any
    base: Any
    oracle: Any
    forget: tuple[Author, ...]
    kept: tuple[Author, ...]
    others: tuple[Author, ...]
    control: tuple[Author, ...]
    facts: tuple[Example, ...]


@dataclass(frozen=True)
class Run:
    arm: str
    method: str
    learning_rate: float
    seed: int


def main() -> None:
    chosen = _arguments()
    OUT.mkdir(exist_ok=True)
    runs = [run for run in planned(chosen) if run not in finished(chosen.lines)]
    pool = ProcessPoolExecutor(chosen.processes, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    with pool:
        for _ in pool.map(functools.partial(make_world, chosen.tofu), sorted({run.seed for run in runs})):
            pass  # the LLMs are on the disk before anybody asks for them
        for done in as_completed([pool.submit(measure, chosen.tofu, run) for run in runs]):
            write(chosen.lines, done.result())


def planned(chosen: argparse.Namespace) -> list[Run]:
    """Seed by seed, each beginning with what all its runs are compared with."""
    runs = []
    for seed in chosen.seeds:
        runs += [Run("base", "none", 0.0, seed), Run("oracle", "none", 0.0, seed)]
        runs += [Run(arm, name, rate, seed) for arm in chosen.arms for name in chosen.methods for rate in chosen.rates]
    return runs


@functools.lru_cache(maxsize=1)
def make_world(folder: Path, seed: int) -> World:
    """Authors who have paraphrases, in an order drawn by the seed. The LLMs are trained if they are not in out/llm."""
    tofu, size = read_tofu(folder), replace(LARGE, authors=SIZE.authors) if torch.cuda.is_available() else SIZE
    split = split_authors(tofu, seed)
    tokenizer = tofu_tokenizer(split, size.recipe.vocabulary)
    people = subset([one for one in split.taught if one.paraphrased], size.authors, size.rows)
    people = shorten_all(people, tokenizer, size.answer_tokens)
    control = shorten_all(subset(split.control, len(split.control), size.rows), tokenizer, size.answer_tokens)
    facts = [shorten(fact, tokenizer, size.answer_tokens) for fact in tofu.facts[:FACTS]]
    middle = FORGET_AUTHORS + (len(people) - FORGET_AUTHORS) // 2

    def taught(authors: Sequence[Author], start: int) -> Any:
        recipe = replace(size.recipe, seed=start)
        place = make_tofu_llm(OUT / "llm", authors, tokenizer, recipe, facts)
        return load_llm(place, recipe.device)[0]

    return World(
        seed=seed,
        tokenizer=tokenizer,
        base=taught(people, 100 * seed),
        oracle=taught(people[FORGET_AUTHORS:], 100 * seed + 50),
        forget=people[:FORGET_AUTHORS],
        kept=people[FORGET_AUTHORS:middle],
        others=people[middle:],
        control=control,
        facts=tuple(facts),
    )


def measure(folder: Path, run: Run) -> dict[str, Any]:
    """The line of one run. An LLM whose numbers are none any more has no levels."""
    world = make_world(folder, run.seed)
    if run.arm in {"base", "oracle"}:
        return {**asdict(run), "levels": levels(world, world.base if run.arm == "base" else world.oracle)}
    llm = copy.deepcopy(world.base)
    started = time.monotonic()
    try:
        summary = unlearn(llm, world.tokenizer, work_of(world, run), lambda _: None)
    except Diverged:
        return {**asdict(run), "seconds": round(time.monotonic() - started, 2), "stopped": "diverged", "levels": {}}
    return {
        **asdict(run),
        "seconds": round(time.monotonic() - started, 2),
        "steps": summary.steps,
        "stopped": summary.stopped,
        "known_items": summary.known_items,
        "levels": levels(world, llm),
    }


def work_of(world: World, run: Run) -> UnlearnWork:
    """Paraphrases are asked, and never trained on nor judged by: whether they go too is what is measured."""
    variant = VARIANTS[run.method]
    general = ENTRIES[variant.method].parameters.model_fields["retain_source"].default == "utility"
    given = {**variant.parameters, "learning_rate": run.learning_rate, "seed": run.seed}
    if run.arm == "fixed":
        given |= {**NEVER, **UNBOUNDED.get(variant.method, {})}
    return UnlearnWork(
        forget=[replace(row, paraphrases=()) for row in rows_of(world.forget)],
        retain=world.facts[: FACTS // 2] if general else rows_of(world.kept),
        control=rows_of(world.control),
        control_level=0.0 if run.arm == "fixed" else level(world, world.base, rows_of(world.control)).probability,
        method=variant.method,
        parameters=given,
    )


def levels(world: World, llm: Any) -> dict[str, dict[str, float]]:
    groups = {
        "forget": rows_of(world.forget),
        "forget_paraphrased": paraphrases_of(world.forget),
        "kept": rows_of(world.kept),
        "kept_paraphrased": paraphrases_of(world.kept),
        "others": rows_of(world.others),
        "others_paraphrased": paraphrases_of(world.others),
        "facts": world.facts[FACTS // 2 :],
        "control": rows_of(world.control),
    }
    return {name: asdict(level(world, llm, rows)) for name, rows in groups.items()}


def finished(path: Path) -> set[Run]:
    return {Run(line["arm"], line["method"], line["learning_rate"], line["seed"]) for line in read(path)}


def read(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def write(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    short = {name: round(one["probability"], 3) for name, one in line["levels"].items()}
    print(*(line[name] for name in ("arm", "method", "learning_rate", "seed")), line.get("seconds"), short, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", type=_one_of(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--arms", type=_one_of(ARMS), default=list(ARMS))
    parser.add_argument("--rates", type=lambda words: [float(word) for word in words.split(",")], default=list(RATES))
    parser.add_argument("--seeds", type=lambda words: [int(word) for word in words.split(",")], default=list(SEEDS))
    parser.add_argument("--processes", type=int, default=1, help="each of one thread")
    parser.add_argument("--lines", type=Path, default=LINES)
    add_tofu_argument(parser)
    return parser.parse_args()


def _one_of(known: Mapping[str, Any] | Sequence[str]) -> Any:
    def names(words: str) -> list[str]:
        unknown = [name for name in words.split(",") if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}: there are {', '.join(known)}")
        return words.split(",")

    return names


if __name__ == "__main__":
    main()
