"""An embedded Lethe as a child process, the way a user would start one: `lethe serve --port 0`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

READY_SECONDS = 60.0
STOP_SECONDS = 15.0


class NotReady(Exception):
    """The service did not start; the sentence says where its last words are."""


@dataclass(frozen=True)
class Server:
    """A running Lethe. `log` is where its stderr goes."""

    process: "subprocess.Popen[str]"
    url: str
    data_dir: Path
    log: Path

    @property
    def api_key(self) -> str:
        """The administrator's key, as the service wrote it at its first start."""
        return (self.data_dir / "admin.key").read_text(encoding="utf-8").strip()

    @property
    def public_keys(self) -> Path:
        return self.data_dir / "public-keys.json"

    def stop(self) -> int:
        """SIGTERM, and the exit status; killed if it takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL: what a power cut looks like to everything else."""
        self.process.kill()
        return self.process.wait(STOP_SECONDS)


def start(data_dir: Path, import_root: Path, environment: Mapping[str, str] | None = None, port: int = 0) -> Server:
    """Start one and wait until it answers. `environment` comes on top of ours. Raises NotReady."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = data_dir / "serve.log"
    options = ["--port", str(port), "--data-dir", str(data_dir), "--import-root", str(import_root)]
    with log.open("a", encoding="utf-8") as stderr:
        process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            [sys.executable, "-m", "lethe.cli", "serve", *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            text=True,
        )
    return Server(process, _ready_url(process, log), data_dir, log)


@contextlib.contextmanager
def running(
    data_dir: Path, import_root: Path, environment: Mapping[str, str] | None = None, port: int = 0
) -> Iterator[Server]:
    """`start`, stopped at the end of the block."""
    server = start(data_dir, import_root, environment, port)
    try:
        yield server
    finally:
        server.stop()
        if server.process.stdout is not None:
            server.process.stdout.close()


def _ready_url(process: "subprocess.Popen[str]", log: Path) -> str:
    """Read stdout up to the ready line; a timer ends a child that never says it."""
    assert process.stdout is not None  # noqa: S101 - `start` asked for a pipe
    timer = threading.Timer(READY_SECONDS, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return str(json.loads(line)["url"])
    finally:
        timer.cancel()
    process.wait(STOP_SECONDS)
    process.stdout.close()
    raise NotReady(f"Lethe did not start (exit status {process.returncode}). Its last words are in {log}.")
