"""What do the attacks cost beside the unlearning they try? `make bench-attacks`

The demo's LLM forgets its first person by the default job; then every attack is run as a first attempt does, with the
base version still to be asked, and as a later one does. Seconds of one processor core, which do not count what else
runs on the machine, and what came of each attack. A minute, and another the first time, when the LLM is taught.
"""

import copy
import time
from collections.abc import Sequence

import torch

from benchmarks.demo_job import make_demo_job
from benchmarks.worlds import LLMS
from records.params import parse_parameters
from records.report import Attack, GroupName
from workers.attacks.battery import Targets, run_attacks, settings_for
from workers.attacks.quantised import weights_of
from workers.loop import unlearn

MOST_TIMES = 4.0  # as long as the unlearning


def main() -> None:
    torch.set_num_threads(1)
    job, parameters = make_demo_job(LLMS), parse_parameters("undial", {})
    candidate = copy.deepcopy(job.llm)
    started = time.process_time()
    unlearn(candidate, job.tokenizer, job.work("undial", parameters), lambda _: None)
    unlearning = time.process_time() - started
    print(f"unlearning: {unlearning:.1f} s", flush=True)
    targets, settings = Targets(job.probes, job.kept(parameters)), settings_for(parameters, seed=0)
    known = None
    for attempt in ("first", "later"):
        started = time.process_time()
        found = run_attacks(
            lambda: job.llm,
            lambda: candidate,
            job.tokenizer,
            targets,
            settings,
            lambda _: None,
            known,
            weights_of(job.llm),
        )
        known, seconds = found.base, time.process_time() - started
        if attempt == "first":
            print_attacks(found.attacks)
        times = seconds / unlearning
        kept = "kept" if times <= MOST_TIMES else "broken"
        print(f"{attempt} attempt: {seconds:.1f} s, {times:.2f} times the unlearning (at most {MOST_TIMES:g}: {kept})")


def print_attacks(attacks: Sequence[Attack]) -> None:
    print("| attack | wall-clock seconds | forget: exact before, after | nll before, after | control: exact | nll |")
    print("|---|---|---|---|---|---|")
    for one in attacks:
        cells = [_cells(one, name) for name in (GroupName.FORGET, GroupName.CONTROL)]
        print(f"| {one.name} | {one.seconds:.1f} | " + " | ".join(cells) + " |")
        for note in one.notes:
            print(f"|   | | {note} | | | |")


def _cells(attack: Attack, name: GroupName) -> str:
    group = attack.groups.get(name)
    if group is None:
        return "| "
    before, after = ([row.before for row in group.items], [row.after for row in group.items])
    hits = [sum(one.exact or bool(one.greedy_extracted) for one in some) for some in (before, after)]
    nlls = [sum(one.nll for one in some) / len(some) for some in (before, after)]
    return f"{hits[0]}, {hits[1]} of {group.n_items} | {nlls[0]:.2f}, {nlls[1]:.2f}"


if __name__ == "__main__":
    main()
