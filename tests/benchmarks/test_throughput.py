"""The throughput benchmark in small: two workers, each model's requests in order, models side by side."""

from pathlib import Path

import pytest

from benchmarks.throughput import measure

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


def test_models_run_side_by_side_and_each_in_order(tmp_path: Path) -> None:
    found = measure(tmp_path, workers=2, models=3, requests=2, job_seconds=1.0)
    assert (found.jobs, found.started_more_than_once, found.wrong) == (6, 0, [])
    assert found.at_once == 2
