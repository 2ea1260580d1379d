"""How many calls the API answers, how soon, and whether it holds on to anything: PostgreSQL, Redis, real processes.

    python -m benchmarks.api_load                  # submit, status, list and events at 1, 10 and 100 clients
    python -m benchmarks.api_load --minutes 60     # then mixed load, with what the processes hold before and after

Servers and clients share one machine, so these are figures of that machine with the callers' work in them. No worker
runs: requests wait, and the mixed load cancels its own, so that the queue stays short while the tables grow.
"""

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.api_samples import Sample, sample, told
from deploy.native import Native, Plan
from lethe.client import Client
from tests.service.conftest import write_checkpoint

MODELS = 20
CLIENTS = (1, 10, 100)
FORGET = [{"prompt": f"Where does person {n} live?", "completion": " In Oslo, by the harbour."} for n in range(5)]
WARM_UP_SECONDS = 20.0
SETTLE_SECONDS = 3.0
CALL_SECONDS = 30.0
NO_LIMITS = {
    "LETHE_RATE_PER_SECOND": "0",
    "LETHE_TENANT_RATE_PER_SECOND": "0",
    "LETHE_QUOTA_OPEN_REQUESTS": "0",
}


@dataclass
class Calls:
    """What one kind of call took, in seconds, and the answers' statuses. Filled from several threads."""

    kind: str
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lasted: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        self.seconds.append(seconds)
        self.statuses[status] += 1


@dataclass(frozen=True)
class Figures:
    """`refused`: answers that were not 2xx, and calls that got none (status 0)."""

    kind: str
    clients: int
    calls: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    refused: dict[int, int]

    def row(self) -> str:
        speed = f"{self.per_second:.1f} | {self.p50_ms:.1f} | {self.p95_ms:.1f} | {self.p99_ms:.1f}"
        return f"| {self.kind} | {self.clients} | {self.calls} | {speed} | {self.refused or ''} |"


HEADER = ("| call | clients | calls | a second | p50 ms | p95 ms | p99 ms | refused |", "|---|" + "--:|" * 7)


class Caller:
    """One client with one connection that is kept."""

    def __init__(self, url: str, api_key: str) -> None:
        self._where = urlsplit(url).netloc
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection(self._where, timeout=CALL_SECONDS)

    def call(self, calls: Calls, method: str, path: str, body: object = None) -> dict[str, object]:
        began = time.perf_counter()
        status, answer = self._exchange(method, path, body)
        calls.add(status, time.perf_counter() - began)
        return dict(json.loads(answer)) if 200 <= status < 300 else {}

    def close(self) -> None:
        self._connection.close()

    def _exchange(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        headers = {**self._headers, "Idempotency-Key": uuid.uuid4().hex} if method == "POST" else self._headers
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next call opens another
            return 0, b""


Act = Callable[[Caller, random.Random], None]


class Load:
    """A production Lethe with models, and everything that callers need to know of it. A context manager."""

    def __init__(self, folder: Path, apis: int) -> None:
        self._imports = folder / "imports"
        self._imports.mkdir()
        roots = [self._imports]
        self.native = Native(Plan(folder / "data", apis, workers=0, import_roots=roots, environment=NO_LIMITS))
        self.names = [f"acme/model-{number}" for number in range(MODELS)]

    def __enter__(self) -> "Load":
        self.native.__enter__()
        source = write_checkpoint(self._imports / "tiny")
        with Client(self.native.urls[0], self.native.api_key) as client:
            for name in self.names:
                client.add_model(name, path=source)
        return self

    def __exit__(self, *_: object) -> None:
        self.native.close()

    def run(self, clients: int, seconds: float, one: Act, pause: float = 0) -> float:
        """`one` again and again from so many clients; returns how long it took."""
        began = time.monotonic()
        threads = [
            threading.Thread(target=self._repeat, args=(number, began + seconds, one, pause), daemon=True)
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - began

    def _repeat(self, number: int, until: float, one: Act, pause: float) -> None:
        caller = Caller(self.native.urls[number % len(self.native.urls)], self.native.api_key)
        chance = random.Random(number)
        due = time.monotonic() + chance.random() * pause
        while (now := time.monotonic()) < until:
            if now < due:
                time.sleep(min(due, until) - now)
                continue
            due = now + pause
            one(caller, chance)
        caller.close()


def curves(load: Load, clients: Iterable[int], seconds: float) -> list[Figures]:
    """Each kind of call on its own, for so many seconds at each number of clients."""
    found = []
    made: list[str] = []
    for count in clients:
        for kind in ("submit", "status", "list", "events"):
            calls = Calls(kind)
            calls.lasted = load.run(count, seconds, _of_kind(kind, calls, load.names, made))
            found.append(figures(calls, count))
            print(found[-1].row(), flush=True)
    return found


def _of_kind(kind: str, calls: Calls, names: list[str], made: list[str]) -> Act:
    def submit(caller: Caller, chance: random.Random) -> None:
        answer = caller.call(calls, "POST", "/v1/erasure-requests", {"model": chance.choice(names), "forget": FORGET})
        if answer:
            made.append(str(answer["id"]))

    def read(caller: Caller, chance: random.Random) -> None:
        paths = {"list": "", "status": f"/{chance.choice(made)}", "events": f"/{chance.choice(made)}/events"}
        caller.call(calls, "GET", f"/v1/erasure-requests{paths[kind]}")

    return submit if kind == "submit" else read


@dataclass(frozen=True)
class Mixed:
    """The mixed load: figures by kind, and what was held after the warm-up and at the end."""

    figures: list[Figures]
    before: Sample
    after: Sample


def mixed(load: Load, clients: int, minutes: float, per_second: float) -> Mixed:
    """What callers do with a request: submit, look four times, its events, a list, the model, cancel."""
    kinds = {kind: Calls(kind) for kind in ("submit", "status", "events", "list", "model", "cancel")}
    life = _life_of(kinds, load.names)
    pause = clients * 9 / per_second if per_second else 0.0  # nine calls in a life
    load.run(clients, min(WARM_UP_SECONDS, minutes * 60), life, pause)
    for calls in kinds.values():
        calls.seconds.clear()
        calls.statuses.clear()
    before = _settled(load)
    lasted = load.run(clients, minutes * 60, life, pause)
    for calls in kinds.values():
        calls.lasted = lasted
    found = [figures(calls, clients) for calls in kinds.values()]
    return Mixed(found, before, _settled(load))


def _life_of(kinds: dict[str, Calls], names: list[str]) -> Act:
    def life(caller: Caller, chance: random.Random) -> None:
        name = chance.choice(names)
        answer = caller.call(kinds["submit"], "POST", "/v1/erasure-requests", {"model": name, "forget": FORGET})
        if not answer:
            return
        path = f"/v1/erasure-requests/{answer['id']}"
        for _ in range(4):
            caller.call(kinds["status"], "GET", path)
        caller.call(kinds["events"], "GET", f"{path}/events")
        caller.call(kinds["list"], "GET", f"/v1/erasure-requests?model={name}&limit=20")
        caller.call(kinds["model"], "GET", f"/v1/models/{name}")
        caller.call(kinds["cancel"], "POST", f"{path}/cancel", {"reason": "enough seen"})
        caller.close()  # the next life begins later than a server keeps a silent connection

    return life


def _settled(load: Load) -> Sample:
    """Once the sweeper has been round and statistics are written."""
    time.sleep(SETTLE_SECONDS)
    return sample(load.native)


def figures(calls: Calls, clients: int) -> Figures:
    ordered = sorted(calls.seconds)
    p50, p95, p99 = (round(1000 * _quantile(ordered, share), 2) for share in (0.50, 0.95, 0.99))
    refused = {status: count for status, count in calls.statuses.items() if not 200 <= status < 300}
    per_second = round(len(ordered) / calls.lasted, 1) if calls.lasted else 0.0
    return Figures(calls.kind, clients, len(ordered), per_second, p50, p95, p99, refused)


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api_load")
    parser.add_argument("--apis", type=int, default=2, help="processes")
    parser.add_argument("--clients", type=int, nargs="*", default=list(CLIENTS))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each kind of call at each number of clients")
    parser.add_argument("--minutes", type=float, default=0.0, help="of mixed load; 0 leaves it out")
    parser.add_argument("--mixed-clients", type=int, default=10)
    parser.add_argument("--per-second", type=float, default=30.0, help="calls of the mixed load; 0 = all it can")
    parser.add_argument("--out", type=Path, help="also write everything here, as JSON")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="api-load") as folder, Load(Path(folder), given.apis) as load:
        print("\n".join(HEADER), flush=True)
        found = curves(load, given.clients, given.seconds)
        held = mixed(load, given.mixed_clients, given.minutes, given.per_second) if given.minutes else None
    if held is not None:
        print("\n".join(["", *HEADER, *(one.row() for one in held.figures), "", *told(held.before, held.after)]))
    if given.out:
        everything = {"curves": [asdict(one) for one in found], "mixed": asdict(held) if held else None}
        given.out.write_text(json.dumps(everything, indent=1) + "\n")
    return int(any(one.refused for one in (*found, *(held.figures if held else ()))))


if __name__ == "__main__":
    sys.exit(main())
