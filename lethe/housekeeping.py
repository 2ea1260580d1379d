"""What lies on a process's own host: no sweeper elsewhere sees that it still keeps what was purged."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from records.parts import Parts
from records.scratch import scratch_root, sweep_scratch
from workers.checkpoint_folders import over_in, sweep_checkpoints

log = structlog.get_logger()

EVERY_SECONDS = 600.0
STOP_SECONDS = 5.0


@contextmanager
def host_kept_clean(parts: Parts, every_seconds: float = EVERY_SECONDS) -> Iterator[None]:
    """In a thread, at once and then again and again while the block runs."""
    over = threading.Event()
    thread = threading.Thread(target=_keep, args=(parts, every_seconds, over), name="housekeeping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(STOP_SECONDS)


def _keep(parts: Parts, every_seconds: float, over: threading.Event) -> None:
    while not over.is_set():
        try:
            sweep_scratch(scratch_root(parts.settings))
            sweep_checkpoints(scratch_root(parts.settings), over_in(parts.database))
            parts.store.sweep_cache()
        except Exception as error:  # noqa: BLE001 - the next time tries again, and the process goes on meanwhile
            log.warning("host.not_swept", error=type(error).__name__)
        over.wait(every_seconds)
