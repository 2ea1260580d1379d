"""A runner without an LLM: every stage of a job for a fixed short time, through the product's own functions.

It reads the order, lays the base version out and verifies it, writes real files, signs them, and publishes. A version
holds `forgotten.json`: the requests that were forgotten, in order. So a version tells whether anything was lost or done
twice on the way to it. At each place it calls at the gate, and commits the fault it is told to.
"""

import contextlib
import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tests.faults.no_queue  # noqa: F401 - before anything that would load the real one
from records import jobs, orders, versions
from records.jobs import Claim
from records.manifest import Manifest
from records.orders import Order
from records.params import parse_parameters
from records.parts import Parts
from records.report import Report, Verdict, VerdictKind
from records.rows import AttemptRow
from records.scratch import scratch_folder, scratch_root
from records.states import Stage
from tests.faults.gate import Caller
from tests.faults.skew import skew_clock
from workers import runner
from workers.publish import Candidate, store_candidate

STEPS = 4
STEP_SECONDS = float(os.environ.get("LETHE_TESTS_STEP_SECONDS", "0.02"))
FORGOTTEN = "forgotten.json"
VERDICT = Verdict(kind=VerdictKind.ACCEPTED, reasons=("made for a test",), checks=())


def main() -> int:
    skew_clock()
    runner._run = work  # type: ignore[assignment]  # the rest of the runner is the product's
    return runner.main()


def work(claim: dict[str, Any], voice: runner.Voice) -> None:
    from records.parts import open_parts

    held, parts = Claim(**claim), open_parts()
    gate = Caller(held.job_id)
    with scratch_folder(scratch_root(parts.settings), f"{held.job_id}.{held.fence}") as folder:
        order, base = _load(held, parts, voice, gate, folder)
        _train(voice, gate)
        _stop_at(voice, gate, Stage.EVALUATE, 0.8)
        candidate = _candidate(order, folder)
        _publish(held, parts, voice, gate, order, base, candidate)
    gate.at("committed")


def _load(held: Claim, parts: Parts, voice: runner.Voice, gate: Caller, folder: Path) -> tuple[Order, Manifest]:
    _stop_at(voice, gate, Stage.LOAD, 0.0)
    with parts.database.reading() as session:
        order = orders.read_order(session, held)
    base = Manifest.from_json(parts.store.read_bytes(order.base_manifest))
    parts.store.materialise(base, folder / "base")
    return order, base


def _train(voice: runner.Voice, gate: Caller) -> None:
    for step in range(STEPS):
        if step == STEPS // 2:
            _stop_at(voice, gate, Stage.UNLEARN, 0.5)
        time.sleep(STEP_SECONDS)
        voice.progress(str(Stage.UNLEARN), 1, 0.2 + 0.1 * step)


def _stop_at(voice: runner.Voice, gate: Caller, stage: Stage, share: float) -> None:
    gate.at(str(stage))
    voice.progress(str(stage), 1, share)


def _candidate(order: Order, folder: Path) -> Candidate:
    made = folder / "candidate"
    shutil.copytree(folder / "base", made, copy_function=shutil.copyfile)
    listed = made / FORGOTTEN
    before = json.loads(listed.read_text()) if listed.exists() else []
    listed.write_text(json.dumps([*before, *(one.id for one in order.requests)]))
    parameters = parse_parameters(order.lead.method, order.lead.parameters)
    report = Report(method=order.lead.method, parameters={}, seeds={}, seconds={}, groups={})
    return Candidate(made, 1, parameters, report, VERDICT, 1)


def _publish(
    held: Claim, parts: Parts, voice: runner.Voice, gate: Caller, order: Order, base: Manifest, candidate: Candidate
) -> None:
    fault = gate.at(str(Stage.PUBLISH))
    voice.progress(str(Stage.PUBLISH), 1, 0.97)
    with _store_that(fault):
        number, files = store_candidate(parts, order, base, candidate)
    gate.at("stored")
    attempt = AttemptRow(
        job_id=held.job_id,
        number=1,
        method=order.lead.method,
        parameters={},
        verdict=str(VerdictKind.ACCEPTED),
        reason="made for a test",
        report=candidate.report.model_dump(mode="json"),
    )
    with parts.database.transaction() as session:
        jobs.add_attempt(session, held, attempt)
        versions.publish(session, held, number, files)


@contextlib.contextmanager
def _store_that(fault: str) -> Iterator[None]:
    """The store's disk takes nothing new: it is full, read-only, or broken."""
    number = {"full": errno.ENOSPC, "refuses": errno.EROFS, "broken": errno.EIO}.get(fault)
    if number is None:
        yield
        return
    from records import store

    def mkstemp(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    store.tempfile.mkstemp = mkstemp  # type: ignore[attr-defined]  # the fault under test
    yield


if __name__ == "__main__":
    sys.exit(main())
