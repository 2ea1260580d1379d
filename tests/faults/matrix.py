"""`python -m tests.faults.matrix --runs 200 --seed 1`: every fault at every place, in random order, with a checker.

A run: a few requests to two of the models, a fault at a place while one of their runners is held there, perhaps a
second one right behind; then everything that is dead is started again, and all must have ended as they should. The
seeds are printed: `--seed 1 --first 17 --runs 1` does run 1:17 again.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.checker import wrong_anywhere, wrong_models
from tests.faults.cluster import Cluster
from tests.faults.faults import DONE, PLACES, Fault, Scene, possible

MODELS = ("acme/one", "acme/two", "acme/three")
SECOND_FAULT = 0.25
# Faults that say how a request ends come alone: there is no telling what another one would make of that.
ENDING = frozenset({"store_is_full", "store_corrupts", "cancel", "cancel_and_kill_worker"})
CHECK_ALL_EVERY = 25
REQUESTS = (1, 2)
HELD_SECONDS = 60.0


def cells(seed: str) -> Iterator[tuple[str, Fault]]:
    """Every (place, fault) once in random order, then again in another."""
    chance = random.Random(seed)
    pairs = [(place, fault) for place in PLACES for fault in possible(place)]
    while True:
        chance.shuffle(pairs)
        yield from pairs


def run(cluster: Cluster, place: str, fault: Fault, seed: str) -> list[str]:
    """One run; what is wrong afterwards, as sentences."""
    chance = random.Random(seed)
    models = tuple(chance.sample(MODELS, 2))
    cluster.gate.arm(place)
    requests = [cluster.submit(chance.choice(models)) for _ in range(chance.randint(*REQUESTS))]
    held = cluster.gate.caught(HELD_SECONDS)
    if held is None:
        return [f"no runner came to {place}"]
    scene = Scene(cluster, chance, held, requests, models=models)
    try:
        fault(scene)
        if chance.random() < SECOND_FAULT and not scene.allowed:
            _strike_again(scene)
    finally:
        held.let_go()
        cluster.gate.disarm()
        cluster.revive()
    return _wrong(cluster, scene)


def _strike_again(scene: Scene) -> None:
    """A second fault at the next place that any runner comes to, if there is one left to come."""
    scene.cluster.revive()
    place = scene.chance.choice(PLACES)
    scene.cluster.gate.arm(place)
    again = scene.cluster.gate.caught(HELD_SECONDS, or_else=lambda: scene.cluster.all_ended(scene.requests))
    if again is not None:
        scene.held = again
        fits = [fault for fault in possible(place) if fault.__name__ not in ENDING]
        scene.chance.choice(fits)(scene)
        again.let_go()


def _wrong(cluster: Cluster, scene: Scene) -> list[str]:
    if not cluster.wait_until_ended(scene.requests):
        states = Counter(cluster.state_of(one) for one in scene.requests)
        return [f"requests did not end: {dict(states)}"]
    found = {one: cluster.state_of(one) for one in scene.requests}
    wrong = [
        f"{one} is {end}: {cluster.sentence_of(one)}"
        for one, end in found.items()
        if end not in scene.allowed.get(one, DONE)
    ]
    return wrong + wrong_models(cluster.parts)


def matrix(folder: Path, runs: range, seed: int, workers: int) -> int:
    """How many runs went wrong."""
    bad, began, seen = 0, time.monotonic(), Counter[str]()
    with Cluster(folder, workers) as cluster:
        for model in MODELS:
            cluster.add_model(model)
        for number, (place, fault) in zip(range(runs.stop), cells(str(seed)), strict=False):
            if number not in runs:
                continue
            at, name = time.monotonic(), f"{seed}:{number}"
            wrong = run(cluster, place, fault, name)
            if number % CHECK_ALL_EVERY == CHECK_ALL_EVERY - 1:
                wrong += wrong_anywhere(cluster.parts)
            bad += bool(wrong)
            seen[fault.__name__] += 1
            _say(f"{name:>8} {place:>10} {fault.__name__:<36} {time.monotonic() - at:5.1f} s", *wrong)
        last = wrong_anywhere(cluster.parts)
        _say(*last)
    took = time.monotonic() - began
    _say(
        f"{sum(seen.values())} runs, {len(seen)} faults, {bad} wrong, {took:.0f} s",
        "at the end: " + (str(last) or "ok"),
    )
    return bad + bool(last)


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix")
    parser.add_argument("--first", type=int, default=0, help="number of the first run: the second number of its seed")
    parser.add_argument("--runs", type=int, default=200, help="how many, from there on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="kept; by default one that goes if nothing is wrong")
    given = parser.parse_args(arguments)
    runs = range(given.first, given.first + given.runs)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="faults"))
    bad = matrix(folder, runs, given.seed, given.workers)
    if bad:
        _say(f"the logs of its processes: {folder / 'data' / 'logs'}")
    elif given.folder is None:
        shutil.rmtree(folder)
    return min(1, bad)


if __name__ == "__main__":
    sys.exit(main())
