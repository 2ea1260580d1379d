"""Where a runner is held at an exact place while something is done to it: a socket that every runner calls at.

The runner's side is `Caller.at(place)`, which waits for the answer. The other side arms a place, gets the first runner
that comes there, strikes, and lets it go, perhaps with a fault to commit itself. No waiting looks at a clock.
"""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ADDRESS = "LETHE_TESTS_GATE"
LOOK_SECONDS = 1.0


class Caller:
    """The runner's side. Without a gate every place is open."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._socket: socket.socket | None = None
        if os.environ.get(ADDRESS):
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(os.environ[ADDRESS])
            self._lines = self._socket.makefile("r")

    def at(self, place: str) -> str:
        """The fault to commit here; empty for none."""
        if self._socket is None:
            return ""
        arrival = {"place": place, "job_id": self._job_id, "pid": os.getpid(), "parent_pid": os.getppid()}
        self._socket.sendall(json.dumps(arrival).encode() + b"\n")
        return self._lines.readline().strip()


@dataclass
class Arrival:
    """A runner at a place, held until it is let go."""

    place: str
    job_id: str
    pid: int
    parent_pid: int
    answer: str = ""
    gone: threading.Event = field(default_factory=threading.Event)

    def let_go(self, answer: str = "") -> None:
        """The first word counts."""
        if not self.gone.is_set():
            self.answer = answer
            self.gone.set()


class Gate:
    """Ours. `changed` is told of every arrival and of every runner's end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = threading.Condition()
        self._armed: Callable[[Arrival], bool] | None = None
        self._caught: list[Arrival] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)
        threading.Thread(target=self._serve, name="gate", daemon=True).start()

    def close(self) -> None:
        self.disarm()
        self._listening.close()

    def arm(self, place: str, other_than: int = 0, job_id: str = "") -> None:
        """Hold the next runner that comes to `place` (any place if empty), of that job, under another worker."""

        def wanted(one: Arrival) -> bool:
            right_place, right_job = place in ("", one.place), job_id in ("", one.job_id)
            return right_place and right_job and one.parent_pid != other_than

        with self.changed:
            self._armed = wanted

    def disarm(self) -> None:
        """Let everybody go whom nobody took."""
        with self.changed:
            self._armed = None
            left, self._caught = self._caught, []
        for one in left:
            one.let_go()

    def caught(self, seconds: float, or_else: Callable[[], bool] = lambda: False) -> Arrival | None:
        """The held runner; None when none came in time, or `or_else` came true."""
        found = self.wait_for(lambda: bool(self._caught) or or_else(), seconds)
        with self.changed:
            return self._caught.pop() if found and self._caught else None

    def wait_for(self, true: Callable[[], bool], seconds: float) -> bool:
        """Looks again whenever something changes here, and once a second: the database tells nobody."""
        waited = 0.0
        while not true():
            if waited >= seconds:
                return False
            with self.changed:
                waited += 0.0 if self.changed.wait(LOOK_SECONDS) else LOOK_SECONDS
        return True

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: socket.socket) -> None:
        with connection, connection.makefile("r") as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:
                arrival = Arrival(**json.loads(line))
                self._arrived(arrival)
                arrival.gone.wait()
                connection.sendall(arrival.answer.encode() + b"\n")
        with self.changed:
            self.changed.notify_all()

    def _arrived(self, arrival: Arrival) -> None:
        with self.changed:
            if self._armed is not None and self._armed(arrival):
                self._armed = None
                self._caught.append(arrival)
            else:
                arrival.let_go()
            self.changed.notify_all()
