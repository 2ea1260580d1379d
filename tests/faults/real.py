"""`python -m tests.faults.real`: a handful of runs of the matrix with the real runner, on a tiny LLM of people that two
ranks share.

Slower than the runs beside it by the loading of a tensor library, and so few; the last check is everything's.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.embedded import MODEL, POLICIES, register_people
from tests.faults import faults
from tests.faults.checker import wrong_anywhere, wrong_models
from tests.faults.cluster import Cluster
from tests.faults.faults import DONE, Fault, Scene
from tests.make_people import TRAINED
from tests.workers.people_model import rows_of, save_llm

RUNS: tuple[tuple[str, Fault], ...] = (
    ("unlearn", faults.kill_worker),
    ("stored", faults.kill_runner),
    ("evaluate", faults.restart_database),
    ("publish", faults.freeze_worker_and_runner),
    ("unlearn", faults.stop_worker),
    ("evaluate", faults.kill_rank),
    ("load", faults.flush_redis),
    ("unlearn", faults.kill_rank),
    ("stored", faults.kill_rank),
)
SECONDS = 600.0
FEW_ARE_LEFT = {"min_retain_items": 1}  # of nine people one or nobody, by the last runs


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.real")
    parser.add_argument("--runs", type=int, default=len(RUNS), help=f"at most {len(RUNS)}")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        return min(1, _runs(Path(folder), RUNS[: given.runs]))


def _runs(folder: Path, runs: Sequence[tuple[str, Fault]]) -> int:
    """How many went wrong."""
    policies = folder / "policies.json"
    policies.write_text(json.dumps({"small": POLICIES["small"] | FEW_ARE_LEFT}))
    bad = 0
    shared = {"LETHE_POLICIES_FILE": str(policies), "LETHE_WORKER_PROCESSES": "2"}
    with Cluster(folder / "cluster", 2, ("real",), **shared) as cluster:
        save_llm(cluster.imports / "people")
        register_people(cluster.client, cluster.imports)
        for (place, fault), name in zip(runs, TRAINED, strict=False):
            began = time.monotonic()
            wrong = _run(cluster, place, fault, name)
            bad += bool(wrong)
            _say(f"{place:>10} {fault.__name__:<36} {time.monotonic() - began:5.1f} s", *wrong)
        last = wrong_anywhere(cluster.parts)
        _say(*last, f"{len(runs)} runs with the real runner: {bad} wrong")
    return bad + bool(last)


def _run(cluster: Cluster, place: str, fault: Fault, name: str) -> list[str]:
    cluster.gate.arm(place)
    request_id = cluster.submit(MODEL, forget=rows_of([name]))
    held = cluster.gate.caught(SECONDS)
    if held is None:
        return [f"no runner came to {place}"]
    scene = Scene(cluster, random.Random(name), held, [request_id], models=(MODEL,))
    try:
        fault(scene)
    finally:
        held.let_go()
        cluster.gate.disarm()
        cluster.revive()
    if not cluster.wait_until_ended(scene.requests, SECONDS):
        return [f"the request did not end: {cluster.state_of(request_id)}"]
    found = cluster.state_of(request_id)
    return [*([] if found in DONE else [f"it is {found}"]), *wrong_models(cluster.parts, contents=False)]


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
