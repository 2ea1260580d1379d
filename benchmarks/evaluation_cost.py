"""What does judging a request cost beside the forgetting that it judges? `make bench-evaluation`

The demo's LLM forgets the demo's first person, by a method's defaults, and is measured as a job measures it: the base
version and the candidate in full, the never-trained reference and the first version teacher-forced. Each part runs in a
process of its own. Seconds are of one processor core, so that other work on the machine does not count; memory is the
part's peak above what the process held when the LLM was loaded (Linux alone tells). A minute, and a few more the first
time, which trains the LLM.
"""

import argparse
import copy
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.demo_job import SETTINGS, make_demo_job
from benchmarks.worlds import LLMS
from records.params import parse_parameters
from records.policy import Policy
from workers.gate import decide
from workers.loop import unlearn
from workers.measure import Measurement, measure, measure_reference, measure_staying
from workers.report import build_report

# getrusage cannot tell: its peak is handed down from the process that started this one, and that one trains the LLM.
PROCESS = Path("/proc/self")
FORGET_THE_PEAK = "5"  # proc(5), clear_refs


@dataclass(frozen=True)
class Cost:
    core_seconds: float
    peak_mebibytes: float


def main() -> None:
    chosen = _arguments()
    make_demo_job(LLMS)
    unlearning = apart(forgetting, chosen.method)
    parts = {
        "base version": apart(asking, measure),
        "candidate": apart(asking, measure),
        "reference": apart(asking, measure_reference),
        "first version": apart(asking, measure_staying),
        "report and verdict": apart(judging, chosen.method),
    }
    print("| part | core seconds | of the forgetting | peak memory, MiB |\n|---|---|---|---|")
    for name, cost in {f"forgetting, `{chosen.method}`": unlearning, **parts}.items():
        print(row_of(name, cost, unlearning))
    seconds = sum(cost.core_seconds for cost in parts.values())
    peak = max(cost.peak_mebibytes for cost in parts.values())
    print(row_of("**evaluation, all of it**", Cost(seconds, peak), unlearning))


def row_of(name: str, cost: Cost, unlearning: Cost) -> str:
    share = cost.core_seconds / unlearning.core_seconds
    return f"| {name} | {cost.core_seconds:.1f} | {share:.2f} | {cost.peak_mebibytes:.0f} |"


def apart(part: Callable[..., Cost], *arguments: Any) -> Cost:
    """In a process of its own: what one part leaves in the allocator would be another's for nothing."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return pool.submit(part, *arguments).result()


def forgetting(method: str) -> Cost:
    job = make_demo_job(LLMS)
    work, student = job.work(method, parse_parameters(method, {})), copy.deepcopy(job.llm)
    return costs(lambda: unlearn(student, job.tokenizer, work, lambda _: None))


def asking(how: Callable[..., Measurement]) -> Cost:
    job = make_demo_job(LLMS)
    return costs(lambda: how(job.llm, job.tokenizer, job.probes, SETTINGS))


def judging(method: str) -> Cost:
    job = make_demo_job(LLMS)
    ask = partial(measure, job.llm, job.tokenizer, job.probes, SETTINGS)
    before, after = ask(), ask()
    reference = measure_reference(job.llm, job.tokenizer, job.probes, SETTINGS)
    first = measure_staying(job.llm, job.tokenizer, job.probes, SETTINGS)

    def judge() -> None:
        decide(
            build_report(before, after, method=method, parameters={}, seeds={}, reference=reference, first=first),
            Policy(),
        )

    return costs(judge)


def costs(part: Callable[[], object]) -> Cost:
    (PROCESS / "clear_refs").write_text(FORGET_THE_PEAK)
    held, started = _mebibytes("VmRSS"), time.process_time()
    part()
    return Cost(time.process_time() - started, _mebibytes("VmHWM") - held)


def _mebibytes(name: str) -> float:
    """What this process holds (VmRSS), or the most that it has held since its peak was forgotten (VmHWM)."""
    lines = (PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", default="undial")
    return parser.parse_args()


if __name__ == "__main__":
    main()
