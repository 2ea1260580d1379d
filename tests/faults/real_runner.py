"""The real runner, which calls at the gate: at each stage, in the middle of training, when its files are stored, and
when it has published."""

import itertools
import sys
from typing import Any

from tests.faults.gate import Caller
from workers import runner

MIDWAY = 4  # of the calls of one stage
STAGES = ("load", "evaluate", "publish")


def main() -> int:
    real_run = runner._run

    def run(claim: dict[str, Any], voice: runner.Voice) -> None:
        gate = Caller(claim["job_id"])
        _call_at_stages(gate)
        _call_when_stored(gate)
        real_run(claim, voice)
        gate.at("committed")

    runner._run = run
    return runner.main()


def _call_at_stages(gate: Caller) -> None:
    progress, steps, seen = runner.Voice.progress, itertools.count(1), set[str]()

    def told(self: runner.Voice, stage: str, attempt: int, share: float) -> None:
        first = stage in STAGES and stage not in seen
        if first or (stage == "unlearn" and next(steps) == MIDWAY):
            seen.add(stage)
            gate.at(stage)
        progress(self, stage, attempt, share)

    runner.Voice.progress = told  # type: ignore[method-assign]


def _call_when_stored(gate: Caller) -> None:
    from workers import pipeline

    store_candidate = pipeline.store_candidate

    def stored(*arguments: Any) -> Any:
        done = store_candidate(*arguments)
        gate.at("stored")
        return done

    pipeline.store_candidate = stored


if __name__ == "__main__":
    sys.exit(main())
