"""How far a job is, 0 to 1: it never falls, and every further attempt gets a part of what was still open.

Attempt k begins at 1 - 0.9·0.35^(k-1): .1, .685, .89, .961.
"""

import time
from collections.abc import Callable

from records.states import Stage
from workers.errors import TookTooLong

LOADED = 0.1
LEFT_OPEN = 0.35
UNLEARNED = 0.7
PUBLISHING = 0.97


def share_of_job(stage: Stage, attempt: int, share: float) -> float:
    """`share` is of the stage; `attempt` counts from 1 (0 while loading)."""
    share = min(1.0, max(0.0, share))
    if stage is Stage.LOAD:
        return _start(1) * share
    if stage is Stage.PUBLISH:
        return PUBLISHING
    within = UNLEARNED * share if stage is Stage.UNLEARN else UNLEARNED + (1 - UNLEARNED) * share
    start, stop = _start(attempt), _start(attempt + 1)
    return start + (stop - start) * within


def until(moment: float, telling: Callable[[float], None]) -> Callable[[float], None]:
    """`telling`, which raises TookTooLong after this moment of the monotonic clock."""

    def told(share: float) -> None:
        if time.monotonic() > moment:
            raise TookTooLong("It took longer than half of what LETHE_JOB_TIMEOUT_SECONDS leaves the job.")
        telling(share)

    return told


def _start(attempt: int) -> float:
    return 1.0 - (1.0 - LOADED) * LEFT_OPEN ** (attempt - 1)
