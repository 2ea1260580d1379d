"""What a stage says of itself, up to a moment."""

import time

import pytest

from workers.errors import TookTooLong
from workers.progress import until


def test_until_a_moment_it_is_told_and_then_it_ends() -> None:
    told: list[float] = []
    until(time.monotonic() + 60.0, told.append)(0.25)
    with pytest.raises(TookTooLong, match="LETHE_JOB_TIMEOUT_SECONDS"):
        until(time.monotonic() - 1.0, told.append)(0.5)
    assert told == [0.25]
