"""Child processes that die with this one: started, stopped, killed, frozen, started again."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TETHER = Path(__file__).with_name("tether.py")
STOP_SECONDS = 60.0


class NotStarted(Exception):
    """A process ended instead of starting; the sentence says where its last words are."""


@dataclass
class Child:
    """One program, started as often as asked. What it says goes to `log`; `user` is who it runs as, if not as us."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    def start(self, talks: bool = False) -> None:
        """`talks` leaves its stdout to us. Start it from a thread that lives as long as it is to live."""
        who = [self.user] if self.user else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-S", str(TETHER), str(os.getpid()), *who, "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._running.pid

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: int) -> None:
        """To the program alone, not to what it started."""
        with contextlib.suppress(ProcessLookupError):
            self._running.send_signal(number)

    def kill(self) -> int:
        """SIGKILL, and the exit status: what a power cut looks like to everything else."""
        self.send(signal.SIGKILL)
        return self._running.wait(STOP_SECONDS)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end, and the exit status; killed if it takes too long."""
        self.send(number)
        try:
            return self._running.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return self.kill()

    def close(self) -> None:
        if self.process is None:
            return
        if self.is_alive():
            self.send(signal.SIGCONT)
            self.stop()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def first_line(self) -> str:
        """What it says first, for a child that talks. Raises NotStarted if it ends in silence."""
        stdout = self._running.stdout
        line = stdout.readline().decode() if stdout is not None else ""
        if not line:
            raise NotStarted(f"{self.name} did not start. Its last words are in {self.log}.")
        return line

    @property
    def _running(self) -> "subprocess.Popen[bytes]":
        if self.process is None:
            raise NotStarted(f"{self.name} was never started.")
        return self.process
