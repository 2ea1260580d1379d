"""What do the attacks cost beside the unlearning they try? `make bench-attacks`

The demo's LLM forgets its first person by the default job; then every attack is run as a first attempt does, with the
base version still to be asked, and as a later one does. Seconds of one processor core, which do not count what else
runs on the machine, and what came of each attack. A minute, and another the first time, when the LLM is taught.
"""

import copy
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.cost import request
from lethe.demo.corpus import make_corpus
from lethe.demo.llm import make_llm
from records.params import parse_parameters
from records.report import Attack, GroupName
from workers.attacks.battery import Targets, run_attacks, settings_for
from workers.attacks.quantised import weights_of
from workers.load import load_llm
from workers.loop import UnlearnWork, unlearn
from workers.measure import MeasureSettings, measure
from workers.plan import PROBE_ROWS

LLMS = Path("out/llm")
MOST_TIMES = 4.0  # as long as the unlearning


def main() -> None:
    torch.set_num_threads(1)
    corpus = make_corpus()
    base, tokenizer = load_llm(make_llm(LLMS, corpus=corpus), "cpu")
    probes, retain, general = request(corpus)
    measuring = MeasureSettings(max_items=PROBE_ROWS)
    before = measure(base, tokenizer, probes, measuring)
    parameters = parse_parameters("undial", {})
    work = UnlearnWork(
        forget=probes.forget,
        retain=(*retain, *general),
        dev_probes=probes.dev,
        control=probes.control,
        control_level=before.control_level(),
        parameters=parameters.model_dump(),
    )
    candidate = copy.deepcopy(base)
    started = time.process_time()
    unlearn(candidate, tokenizer, work, lambda _: None)
    unlearning = time.process_time() - started
    print(f"unlearning: {unlearning:.1f} s", flush=True)
    targets, settings = Targets(probes, retain), settings_for(parameters, seed=0)
    known = None
    for attempt in ("first", "later"):
        started = time.process_time()
        found = run_attacks(
            lambda: base, lambda: candidate, tokenizer, targets, settings, lambda _: None, known, weights_of(base)
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
