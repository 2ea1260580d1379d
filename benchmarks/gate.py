"""Does the gate tell the truth? `make bench-gate`, or a part of it

    python -m benchmarks.gate --seeds 1,2 --processes 2
    python -m benchmarks.gate --rejudge          # the verdicts again, of what was measured, under the gate as it is now

Small LLMs of TOFU (`benchmarks.gate_world`) and candidates of which is known whether they should pass: LLMs that never
met the forgotten should, all others of `benchmarks.gate_candidates` should not. Each is measured and judged as a job
does it: base and candidate under the same questions, the never-trained reference, a report, the gate; and where that
does not reject, the attacks and the gate again.

What was measured is kept under out/gate and not measured again; one JSON line a verdict goes to out/gate.jsonl, and
what stands there is not judged again. `python -m benchmarks.gate_summary` makes the tables of it.
"""

import argparse
import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import gate_candidates as make
from benchmarks.gate_attacks import Attacks
from benchmarks.gate_lines import LINES, Case, finished, line_of, write_line
from benchmarks.gate_measured import light_report, measure_all, measure_request, place_of, read, write
from benchmarks.gate_world import OUT, SIZES, TAUGHT, Request, World, make_world, requests_of, taught_llm
from benchmarks.tofu import add_tofu_argument
from records.policy import Policy
from records.report import Report, Verdict, VerdictKind
from workers.errors import Diverged
from workers.gate import decide
from workers.load import load_llm
from workers.measure import Measurement
from workers.report import build_report

JUDGED = ("base", "oracle", "oracle-2", "left-10", "left-20", "left-30", *make.DERIVED, *make.FOR_ONE_REQUEST)
# What is made anew for a request is made for so many of one, five and twenty people.
MADE_FOR = (4, 3, 1)


@dataclass(frozen=True)
class Todo:
    """`request` None: an LLM that is asked everything once."""

    seed: int
    candidate: str
    request: Request | None = None


def main() -> None:
    chosen = _arguments()
    if chosen.rejudge:
        chosen.lines.unlink(missing_ok=True)
    pool = ProcessPoolExecutor(chosen.processes, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    with pool:
        for stage in () if chosen.rejudge else (taught, derived, for_one_request):
            todos = [todo for seed in chosen.seeds for todo in stage(chosen, seed)]
            for done in as_completed([pool.submit(prepare, chosen.tofu, todo) for todo in todos]):
                print(done.result(), flush=True)
        running = [pool.submit(judge_request, chosen, seed, request) for seed, request in asked(chosen)]
        for judged in as_completed(running):
            judged.result()


def taught(chosen: argparse.Namespace, seed: int) -> list[Todo]:
    return [Todo(seed, name) for name in TAUGHT if name in {*chosen.candidates, "base", "reference", "oracle"}]


def derived(chosen: argparse.Namespace, seed: int) -> list[Todo]:
    return [Todo(seed, name) for name in make.DERIVED if name in chosen.candidates]


def for_one_request(chosen: argparse.Namespace, seed: int) -> list[Todo]:
    world = make_world(chosen.tofu, seed)
    names = [name for name in make.FOR_ONE_REQUEST if name in chosen.candidates]
    return [
        Todo(seed, name, request)
        for request in chosen_requests(world, chosen)
        for name in names
        if made_for(request, chosen.made)
    ]


def asked(chosen: argparse.Namespace) -> Iterable[tuple[int, Request]]:
    for seed in chosen.seeds:
        yield from ((seed, request) for request in chosen_requests(make_world(chosen.tofu, seed), chosen))


def chosen_requests(world: World, chosen: argparse.Namespace) -> list[Request]:
    """The largest first: they take longest."""
    found = [one for one in requests_of(world) if one.size > 1 or one.people[0] < chosen.singles]
    return sorted(found, key=lambda one: -one.size)


def made_for(request: Request, counts: Sequence[int]) -> bool:
    step = 1 if request.size == 1 else 5
    return request.people[0] // step < counts[SIZES.index(request.size)]


def prepare(tofu: Path, todo: Todo) -> str:
    """Make the LLM if it is not on the disk, and measure it if it was not."""
    place = place_of(todo.seed, todo.candidate, todo.request.name if todo.request else "all")
    if place.exists():
        return f"{place.name} was measured before"
    world = make_world(tofu, todo.seed)
    try:
        llm = llm_of(world, todo.candidate, todo.request)
    except Diverged:
        return f"{place.name} diverged"
    if todo.request:
        write(place, measure_request(world, llm, todo.request))
    else:
        write(place, measure_all(world, llm, never_trained=todo.candidate == "reference"))
    return f"{place.name} is measured"


def llm_of(world: World, candidate: str, request: Request | None) -> Any:
    """As it was saved: read from the disk, where it is made if it is not there yet."""
    if candidate in TAUGHT:
        return load_llm(taught_llm(world, candidate), "cpu")[0]
    folder = OUT / f"seed-{world.seed}" / f"{candidate}.{request.name if request else 'all'}.llm"
    if not (folder / "config.json").exists():
        made = made_llm(world, candidate, request)
        made.save_pretrained(folder)
        world.tokenizer.save_pretrained(folder)
    return load_llm(folder, "cpu")[0]


def made_llm(world: World, candidate: str, request: Request | None) -> Any:
    base = llm_of(world, "base", None)
    if candidate == "masked":
        return make.masked(world, base)
    if candidate == "over":
        return make.over_forgotten(world, base)
    if candidate == "fragile":
        return make.fragile(world, base, llm_of(world, "oracle", None))
    if request is None:
        raise ValueError(f"{candidate} is made for one request: name it")
    if candidate == "damaged":
        return make.damaged(world, llm_of(world, "oracle", None), request)
    before = read(place_of(world.seed, "base"), world, request)
    return make.unlearned(world, base, request, candidate, before.control_level())


def judge_request(chosen: argparse.Namespace, seed: int, request: Request) -> None:
    """Every candidate of one request that has no line yet."""
    torch.set_num_threads(1)
    world, done = make_world(chosen.tofu, seed), finished(chosen.lines)
    attacks = Attacks(world, request, llm_of, run=not chosen.rejudge)
    for candidate in chosen.candidates:
        case = Case(seed, request.name, request.size, candidate)
        place = measured_at(case)
        if case not in done and place.exists():
            report, verdicts = judged(case, attacks)
            write_line(chosen.lines, line_of(case, report, verdicts))


def measured_at(case: Case) -> Path:
    return place_of(case.seed, case.candidate, case.request if case.candidate in make.FOR_ONE_REQUEST else "all")


def judged(case: Case, attacks: Attacks) -> tuple[Report, list[Verdict]]:
    """The report and one verdict, or two: attacks are run where the first does not reject."""
    report = report_of(attacks.world, case, attacks.request, light=not attacks.run)
    first = decide(report, Policy())
    if first.kind is VerdictKind.REJECTED or first.kind is VerdictKind.NOT_MEMORISED:
        return report, [first]
    found = attacks.on(case, attacks.request if case.candidate in make.FOR_ONE_REQUEST else None)
    if found is None:
        return report, [first]
    report = report.model_copy(update={"attacks": found})
    return report, [first, decide(report, Policy())]


def report_of(world: World, case: Case, request: Request, light: bool = False) -> Report:
    """Everybody asks for the first time: the base is the model's first version, and nobody asked earlier."""

    def measured(name: str) -> Measurement:
        return read(place_of(world.seed, name), world, request)

    after = read(measured_at(case), world, request)
    if light:
        return light_report(measured("base"), after, measured("reference"))
    return build_report(
        measured("base"),
        after,
        method=case.candidate,
        parameters={},
        seeds={"plan": world.seed},
        reference=measured("reference"),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=lambda words: [int(word) for word in words.split(",")], default=[1, 2, 3])
    parser.add_argument("--candidates", type=_candidates, default=list(JUDGED))
    parser.add_argument("--singles", type=int, default=20, help="how many of the twenty requests of one person")
    parser.add_argument(
        "--made",
        type=lambda words: [int(word) for word in words.split(",")],
        default=MADE_FOR,
        help="for how many requests of one, five and twenty people candidates of their own are made",
    )
    parser.add_argument("--processes", type=int, default=1, help="each of one thread")
    parser.add_argument("--lines", type=Path, default=LINES)
    parser.add_argument("--rejudge", action="store_true", help="write all verdicts anew, measuring nothing")
    add_tofu_argument(parser)
    return parser.parse_args()


def _candidates(words: str) -> list[str]:
    unknown = [name for name in words.split(",") if name not in JUDGED]
    if unknown:
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}: there are {', '.join(JUDGED)}")
    return words.split(",")


if __name__ == "__main__":
    main()
