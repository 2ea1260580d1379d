"""How long each stage of a job takes, and how much of a GPU it needs: a span for the trace, a row for the metrics."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import torch

from records import tracing
from records.jobs import Claim
from records.rows import StageRow

log = structlog.get_logger()


class Stages:
    """The stages of one execution. Rows wait here until a transaction of the job takes them along."""

    def __init__(self, held: Claim) -> None:
        self._held = held
        self._ended: list[StageRow] = []

    @contextmanager
    def timed(self, stage: str, attempt: int) -> Iterator[None]:
        """What is done inside is `stage` of `attempt` (0 before the first), whether it ends well or not."""
        began = time.monotonic()
        _forget_peak()
        try:
            with tracing.span(stage, {"lethe.attempt": attempt}) as span:
                try:
                    yield
                finally:
                    peak = _peak_bytes()
                    span.tell({} if peak is None else {"lethe.gpu_peak_bytes": peak})
        finally:
            self._end(stage, attempt, time.monotonic() - began, peak)

    def take(self) -> list[StageRow]:
        """Those that ended since the last time."""
        taken, self._ended = self._ended, []
        return taken

    def _end(self, stage: str, attempt: int, seconds: float, peak: int | None) -> None:
        where = {"job_id": self._held.job_id, "fence": self._held.fence, "attempt": attempt, "stage": stage}
        self._ended.append(StageRow(**where, seconds=seconds, gpu_peak_bytes=peak))
        log.info("stage.ended", stage=stage, attempt=attempt, seconds=round(seconds, 3), gpu_peak_bytes=peak)


def _forget_peak() -> None:
    for device in _devices():
        torch.cuda.reset_peak_memory_stats(device)


def _peak_bytes() -> int | None:
    """Of the device that held most since `_forget_peak`; None without one."""
    return max((torch.cuda.max_memory_allocated(device) for device in _devices()), default=None)


def _devices() -> range:
    """Those in use: asking would wake the others."""
    return range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
