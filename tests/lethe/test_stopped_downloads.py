"""Ctrl-C, or one file that fails, ends a download of many large files at once: nobody waits for hours."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lethe.downloads import DownloadFailed, fetch_all
from tests.lethe.flaky import Call, Reply, flaky
from tests.lethe.test_downloads import BASE, ranged, remote, to

LARGE = bytes(256) * 80_000  # 300 pieces and more, as they come from a socket
HURRY_SECONDS = 10.0


def slowly(_count: int) -> None:
    time.sleep(0.1)


@pytest.fixture
def hurry() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < HURRY_SECONDS


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Ctrl-C, which must end what is in the block."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, before)


@contextmanager
def at_last(release: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Release what the block waits for once it has waited for too long, so that it fails instead of hanging."""
    timer = threading.Timer(2 * HURRY_SECONDS, release, arguments)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def test_files_on_their_way_stop_at_their_next_piece(tmp_path: Path, hurry: None) -> None:
    files = [remote(LARGE, f"{number}.safetensors") for number in range(6)]
    with flaky(lambda call, _: ranged(call, LARGE)) as server, to(server) as transport, interrupted_after(0.5):
        fetch_all(transport, BASE, files, tmp_path, slowly)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.part")]
    assert len(sizes) == 4  # the others did not begin
    assert max(sizes) < len(LARGE)
    assert not [thread for thread in threading.enumerate() if thread.name == "download"]


def test_a_silent_connection_keeps_nobody(tmp_path: Path, hurry: None) -> None:
    held = threading.Event()

    def stalls(call: Call, _: int) -> Reply:
        reply = ranged(call, cut_at=None if held.is_set() else 1000)
        reply.held = held
        return reply

    with flaky(stalls) as server, at_last(held.set), to(server) as transport:
        with interrupted_after(0.5):
            fetch_all(transport, BASE, [remote()], tmp_path)
        held.set()


def test_a_download_that_waits_for_another_process_can_be_ended(tmp_path: Path, hurry: None) -> None:
    with (tmp_path / "model.safetensors.part").open("wb") as other, flaky(lambda call, _: ranged(call)) as server:
        fcntl.flock(other, fcntl.LOCK_EX)
        with at_last(fcntl.flock, other, fcntl.LOCK_UN), to(server) as transport, interrupted_after(0.5):
            fetch_all(transport, BASE, [remote()], tmp_path)


def test_one_file_that_fails_ends_the_others(tmp_path: Path, hurry: None) -> None:
    def answer(call: Call, _: int) -> Reply:
        return Reply(200, b"no") if call.path.endswith("config.json") else ranged(call, LARGE)

    files = [remote(LARGE), remote(b"{}", "config.json")]
    with (
        flaky(answer) as server,
        to(server) as transport,
        pytest.raises(DownloadFailed, match=r"config\.json arrived with another SHA-256"),
    ):
        fetch_all(transport, BASE, files, tmp_path, slowly)
    assert (tmp_path / "model.safetensors.part").stat().st_size < len(LARGE)
