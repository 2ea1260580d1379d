"""Does forgetting hold when people ask one after another? `make bench-sequences`, or for some strategies and seeds

    python -m benchmarks.sequences --strategies default,no-replay --seeds 1,2 --requests 20

The demo's made-up world and the LLM that learnt it by heart; one person a request, forgotten by `workers.loop.unlearn`
from the version before, as the service would, though without it. After each request everybody is asked. One JSON line
a request goes to out/sequences.jsonl as it is measured, so a run that is cut off keeps what it has, and what stands
there already is not run again. `python -m benchmarks.sequences_summary` makes the table and the curves of it.
"""

import argparse
import copy
import json
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.sequence_strategies import STRATEGIES, Strategy, make_anchors
from lethe.demo.corpus import (
    Corpus,
    Subject,
    control_rows,
    forget_rows,
    held_questions,
    make_corpus,
    retain_rows,
    trained_questions,
    utility_rows,
)
from lethe.demo.llm import CONTEXT_TOKENS, as_example, make_llm
from workers.batches import Encoded
from workers.evaluation.scoring import score
from workers.examples import Example, encode, parse
from workers.load import load_llm
from workers.loop import UnlearnWork, unlearn
from workers.plan import REPLAY_ROWS, hold_out
from workers.probes import split_probes

OUT = Path("out")
LINES = OUT / "sequences.jsonl"


@dataclass(frozen=True)
class World:
    """One seed's people, LLM and datasets. `asking` make a request each, in this order; `others` never do."""

    seed: int
    corpus: Corpus
    llm: Any
    tokenizer: Any
    asking: tuple[Subject, ...]
    others: tuple[Subject, ...]


@dataclass(frozen=True)
class Level:
    """Of a group's answers: share exact, mean token probability, the largest chance that one sample is the answer."""

    asked: int
    exact: float
    probability: float
    largest: float


def main() -> None:
    chosen = _arguments()
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    for seed in chosen.seeds:
        world = make_world(seed, chosen.requests)
        for name in chosen.strategies:
            if (name, seed) in finished(chosen.lines, chosen.requests):
                continue
            for line in run(world, STRATEGIES[name]):
                write(chosen.lines, {"strategy": name, "seed": seed, **line})


def make_world(seed: int, requests: int) -> World:
    corpus = make_corpus(seed)
    llm, tokenizer = load_llm(make_llm(OUT / "llm", corpus=corpus), "cpu")
    people = random.Random(seed).sample(corpus.people, len(corpus.people))
    return World(seed, corpus, llm, tokenizer, tuple(people[:requests]), tuple(people[requests:]))


def run(world: World, strategy: Strategy) -> Iterator[dict[str, Any]]:
    """One line before the first request, then one after each job."""
    llm, forgotten = copy.deepcopy(world.llm), 0
    anchors = make_anchors(strategy.anchors, world.llm, world.tokenizer, kept_rows(world, 0), world.seed)
    yield {"requests": 0, "levels": levels(world, llm, 0, len(world.asking))}
    while forgotten < len(world.asking):
        newest = min(strategy.together, len(world.asking) - forgotten)
        forgotten += newest
        started = time.monotonic()
        summary = forget(world, strategy, llm, range(forgotten - newest, forgotten), anchors)
        if strategy.consolidate_every and forgotten % strategy.consolidate_every == 0:
            llm = copy.deepcopy(world.llm)
            summary = forget(world, strategy, llm, range(forgotten), anchors)
        yield {
            "requests": forgotten,
            "seconds": round(time.monotonic() - started, 2),
            "steps": summary.steps,
            "known_items": summary.known_items,
            "levels": levels(world, llm, forgotten, newest),
        }


def forget(world: World, strategy: Strategy, llm: Any, which: range, anchors: Sequence[Example]) -> Any:
    """One job, planned as `workers.plan` does: a tenth of the retain rows is never trained on, half of the held
    phrasings guide the stop, and whoever asked before is replayed and never kept."""
    rows = [parse(row) for at in which for row in forget_rows(world.asking[at])]
    earlier = [parse(row) for at in reversed(range(which.start)) for row in forget_rows(world.asking[at])]
    gone = {person.name for person in world.asking[: which.stop]}
    work = UnlearnWork(
        forget=rows,
        retain=kept_rows(world, which.stop) + [anchor for anchor in anchors if anchor.subject not in gone],
        dev_probes=split_probes(rows, seed=world.seed)[0],
        replay=earlier[:REPLAY_ROWS] if strategy.replay else (),
        control_level=level(world, llm, map(parse, control_rows(world.corpus))).probability,
        method=strategy.method,
        parameters={**strategy.parameters, "seed": world.seed},
    )
    teacher = world.llm if strategy.teacher == "original" else None
    return unlearn(llm, world.tokenizer, work, lambda _: None, teacher)


def kept_rows(world: World, forgotten: int) -> list[Example]:
    """The retain dataset without whoever asked to be forgotten, and without the tenth that a job only asks."""
    gone = {person.name for person in world.asking[:forgotten]}
    pool = [parse(row) for row in retain_rows(world.corpus) if row["subject"] not in gone]
    return hold_out(pool, world.seed)[1]


def levels(world: World, llm: Any, forgotten: int, newest: int) -> dict[str, dict[str, float]]:
    """How much is known of each group. `others_unseen` are asked in a phrasing that no dataset ever held."""
    past = world.asking[:forgotten]
    taught = [person for person in world.others if person.taught_held]
    untaught = [person for person in world.others if not person.taught_held]
    groups = {
        "newest": map(as_example, trained_questions(past[-newest:])),
        "forgotten": map(as_example, trained_questions(past)),
        "forgotten_held": map(as_example, held_questions(past)),
        "others": map(as_example, trained_questions(world.others)),
        "others_held": map(as_example, held_questions(taught)),
        "others_unseen": map(as_example, held_questions(untaught)),
        "utility": map(parse, utility_rows(world.corpus)),
        "control": map(parse, control_rows(world.corpus)),
    }
    return {name: asdict(level(world, llm, some)) for name, some in groups.items() if forgotten or name[:3] != "for"}


def level(world: World, llm: Any, examples: Iterable[Example]) -> Level:
    items: list[list[Encoded]] = [encode(one, world.tokenizer, CONTEXT_TOKENS) for one in examples]
    if not items:
        return Level(0, 0.0, 0.0, 0.0)
    scores = score(llm, items, world.tokenizer.pad_token_id)
    return Level(
        asked=len(scores),
        exact=sum(one.exact for one in scores) / len(scores),
        probability=sum(one.token_probability for one in scores) / len(scores),
        largest=max(one.sampled_probability for one in scores),
    )


def finished(path: Path, requests: int) -> set[tuple[str, int]]:
    return {(line["strategy"], line["seed"]) for line in read(path) if line["requests"] >= requests}


def read(path: Path) -> list[dict[str, Any]]:
    """Later lines replace earlier ones of the same strategy, seed and place in the sequence."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return list({(one["strategy"], one["seed"], one["requests"]): one for one in found}.values())


def write(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    short = {name: round(one["exact"], 3) for name, one in line["levels"].items()}
    print(line["strategy"], line["seed"], line["requests"], line.get("seconds"), short, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--strategies", type=_names, default=list(STRATEGIES))
    parser.add_argument("--seeds", type=lambda words: [int(word) for word in words.split(",")], default=[1])
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--lines", type=Path, default=LINES)
    return parser.parse_args()


def _names(words: str) -> list[str]:
    names = words.split(",")
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no strategy {', '.join(unknown)}: there are {', '.join(STRATEGIES)}")
    return names


if __name__ == "__main__":
    main()
