"""Twenty models, ten requests each, over four workers: order within a model, models side by side, and how much faster
than one worker.

    python -m benchmarks.throughput --workers 4 --models 20 --requests 10

The runner takes a fixed time and computes nothing, so that this measures queue, leases, database and the starting of
processes, and not how many cores the machine has. One worker does fewer requests; both rates are requests a minute.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records.parts import Parts
from records.rows import AuditEntryRow, JobRow
from tests.faults.checker import wrong_anywhere, wrong_models
from tests.faults.cluster import Cluster

STEPS = 4  # of the runner, each of so many seconds
LONGEST_SECONDS = 3600.0
CALM = {"LETHE_LEASE_SECONDS": "60", "LETHE_RENEW_SECONDS": "1", "LETHE_SWEEP_SECONDS": "2"}


@dataclass(frozen=True)
class Measured:
    """`at_once`: most jobs that ran at the same time. `started_more_than_once`: jobs whose lease was lost."""

    workers: int
    jobs: int
    seconds: float
    per_minute: float
    at_once: int
    started_more_than_once: int
    wrong: list[str]


def measure(folder: Path, workers: int, models: int, requests: int, job_seconds: float) -> Measured:
    """All requests are taken in before the workers start."""
    environment = {**CALM, "LETHE_TESTS_STEP_SECONDS": str(job_seconds / STEPS)}
    with Cluster(folder, 0, **environment) as cluster:
        names = [f"acme/model-{number}" for number in range(models)]
        for name in names:
            cluster.add_model(name)
        asked = [cluster.submit(name) for _ in range(requests) for name in names]
        started = [cluster.native.child(f"worker-{n}", cluster.native.plan.worker) for n in range(workers)]
        cluster.native.workers.extend(started)
        for child in started:
            child.start()
        cluster.wait_until_ended(asked, LONGEST_SECONDS)
        wrong = wrong_models(cluster.parts) + wrong_anywhere(cluster.parts)
        return _measured(cluster.parts, workers, wrong)


def _measured(parts: Parts, workers: int, wrong: list[str]) -> Measured:
    """From the first start of a job to the last end: the starting of the workers themselves is not counted."""
    with parts.database.reading() as session:
        jobs = list(session.scalars(sa.select(JobRow)))
        wrong = wrong + _out_of_order(session)
    spans = [(job.started_at, job.finished_at) for job in jobs if job.started_at and job.finished_at]
    seconds = (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()
    again = sum(job.executions != 1 for job in jobs)
    return Measured(
        workers, len(spans), round(seconds, 1), round(60 * len(spans) / seconds, 1), _at_once(spans), again, wrong
    )


def _at_once(spans: Sequence[tuple[object, object]]) -> int:
    edges = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])  # type: ignore[type-var]
    return max(itertools.accumulate(change for _, change in edges))


def _out_of_order(session: Session) -> list[str]:
    """Models whose jobs did not run one after another in the order of their requests, by the log."""
    positions = {job.id: (job.model_id, job.position) for job in session.scalars(sa.select(JobRow))}
    told = session.execute(
        sa.select(AuditEntryRow.tag, AuditEntryRow.job_id)
        .where(AuditEntryRow.tag.in_(["job.running", "job.succeeded"]))
        .order_by(AuditEntryRow.position)
    )
    lines: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for tag, job_id in told:
        model_id, position = positions[job_id]
        lines[model_id].append((tag, position))
    right = lambda n: [(tag, at) for at in range(1, n + 1) for tag in ("job.running", "job.succeeded")]  # noqa: E731
    return [f"{model_id} ran in another order" for model_id, line in lines.items() if line != right(len(line) // 2)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--requests", type=int, default=10, help="of each model")
    parser.add_argument("--requests-of-one", type=int, default=2, help="of each model, for the one worker")
    parser.add_argument("--job-seconds", type=float, default=2.0)
    given = parser.parse_args(arguments)
    found = []
    for workers, requests in ((1, given.requests_of_one), (given.workers, given.requests)):
        with tempfile.TemporaryDirectory(prefix="throughput") as folder:
            began = time.monotonic()
            found.append(measure(Path(folder), workers, given.models, requests, given.job_seconds))
            print(json.dumps(asdict(found[-1])), f"{time.monotonic() - began:.0f} s in all")
    ratio = found[1].per_minute / found[0].per_minute
    print(f"{given.workers} workers do {ratio:.2f} times as many requests a minute as one")
    return int(any(one.wrong or one.started_more_than_once for one in found))


if __name__ == "__main__":
    sys.exit(main())
