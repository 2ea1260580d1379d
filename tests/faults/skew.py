"""A host whose clock is wrong, by the seconds in an environment variable: for this process and those it starts."""

import os
import time
from datetime import datetime, timedelta
from typing import Any

SECONDS = "LETHE_TESTS_CLOCK_SKEW"


def skew_clock() -> None:
    """From now on wall-clock time is wrong here; monotonic time, and the database's, are not."""
    skew = float(os.environ.get(SECONDS, "0"))
    if not skew:
        return
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + skew  # type: ignore[assignment]  # the fault under test
    time.time_ns = lambda: right_ns() + int(skew * 1e9)  # type: ignore[assignment]

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=skew)

    from records import base

    base.datetime = Skewed  # type: ignore[attr-defined,misc]
