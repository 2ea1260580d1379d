"""The processes of one job: the runner is rank 0 and alone knows the database, the keys and the supervisor; it starts
the others, and tells them through a pipe each what to compute next.

    with team_of(size, folder, settings, held) as team:
        measured = team.call(measure_folder, ..., say=voice)      # the same call on every rank; rank 0's answer

The others live and die with rank 0: they are killed by the kernel when it ends, and when one of them is lost the
runner ends as if it had been killed itself, so that the job is tried again from its last checkpoint. Whatever else
goes wrong is an error of the call on rank 0, and the next call begins with new processes.
"""

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

import structlog
import torch
import torch.distributed as dist

from records import logs
from records.jobs import Claim
from records.settings import WorkerSettings
from workers.errors import Cancelled, Stopped
from workers.load import chosen_device, use_threads
from workers.runner import die_with, leave_no_core
from workers.sharding import told

T = TypeVar("T")
Say = Callable[..., None]
log = structlog.get_logger()

RANK_LOST = 5  # exit status of a runner that lost another rank
GRACE_SECONDS = 10.0
HERE = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # ranks of a job are processes of one host
GO_ON, CANCELLED, STOPPED, FAILED = range(4)
_ENDS: dict[int, type[Exception]] = {CANCELLED: Cancelled, STOPPED: Stopped}


@dataclass(frozen=True)
class Seat:
    """What a rank must know to join."""

    rank: int
    size: int
    store: str
    settings: WorkerSettings
    held: Claim


@dataclass
class Team:
    """Of `size` ranks, this process among them. `folder` is the job's own."""

    size: int
    folder: Path
    settings: WorkerSettings
    held: Claim
    others: "list[_Other]" = field(default_factory=list)
    gatherings: int = 0

    def call(self, function: Callable[..., T], *arguments: Any, say: Say) -> T:
        """function(*arguments, say=say) on every rank. `say` is a step boundary: what it raises on rank 0 ends all."""
        if self.size == 1:
            return function(*arguments, say=say)
        self._gather()
        try:
            for other in self.others:
                other.wanted.set()
                other.pipe.send((function, arguments))
            done = function(*arguments, say=_leading(say))
        except BaseException:
            self._end_if_lost()
            self.disband()
            raise
        for other in self.others:
            other.wanted.clear()
        return done

    def disband(self) -> None:
        """The other ranks end; a later call starts new ones."""
        for other in self.others:
            other.end()
        self.others = []
        if dist.is_initialized():
            dist.destroy_process_group()

    def _gather(self) -> None:
        if self.others and all(other.is_ready() for other in self.others):
            return
        self.disband()
        self.gatherings += 1
        store = str(self.folder / f"ranks-{self.gatherings}")
        seats = [Seat(rank, self.size, store, self.settings, self.held) for rank in range(self.size)]
        os.environ.update(HERE)
        self.others = [_Other.started(seat) for seat in seats[1:]]
        for other in self.others:
            other.wanted.set()  # rank 0 would wait half an hour for one that ends before it has joined
        try:
            _join(seats[0])
        except BaseException:
            self.disband()
            raise

    def _end_if_lost(self) -> None:
        if any(other.is_lost() for other in self.others):
            _end_as_killed()


@dataclass
class _Other:
    """Another rank, seen from rank 0, with a thread that notices when it fails or dies while it is wanted."""

    process: Any
    pipe: Connection
    wanted: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def started(cls, seat: Seat) -> "_Other":
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=follow, args=(os.getpid(), theirs, seat), daemon=True)
        process.start()
        theirs.close()
        other = cls(process, ours)
        threading.Thread(target=other.watch, name=f"rank-{seat.rank}", daemon=True).start()
        return other

    def watch(self) -> None:
        """A rank that fails where rank 0 does not leaves rank 0 waiting for it: it gets some time to notice itself. One
        that ends between two calls is missed by nobody.
        """
        wait([self.process.sentinel, self.pipe])
        if not self.ended.wait(GRACE_SECONDS) and self.wanted.is_set():
            _end_as_killed()

    def is_ready(self) -> bool:
        """It lives, and has had nothing to say of an earlier call."""
        return self.process.is_alive() and not self.pipe.poll()

    def is_lost(self) -> bool:
        """Whether it died by itself: a kill shows at the other end of the line a moment before the process is gone."""
        self.process.join(0.5)
        return not self.process.is_alive()

    def end(self) -> None:
        self.ended.set()
        self.process.kill()
        self.process.join()
        self.pipe.close()


@contextlib.contextmanager
def team_of(size: int, folder: Path, settings: WorkerSettings, held: Claim) -> Iterator[Team]:
    """A team; the other ranks start with the first call."""
    team = Team(size, folder, settings, held)
    try:
        yield team
    finally:
        team.disband()


def follow(leader_pid: int, pipe: Connection, seat: Seat) -> None:
    """The life of a rank other than 0."""
    die_with(leader_pid)
    leave_no_core()
    logs.to_stderr(seat.held)
    use_threads(seat.settings.worker_threads)
    _join(seat)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            function(*arguments, say=_following)
        except Cancelled:
            pipe.send(seat.rank)
        except Exception as error:  # noqa: BLE001 - rank 0 has it too, or is told by the line's end that this one has
            logs.told("rank.error", error, rank=seat.rank)
            pipe.send(seat.rank)


def _join(seat: Seat) -> None:
    device = chosen_device(seat.settings.device, seat.rank, seat.size)
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    store = dist.FileStore(seat.store, seat.size)
    dist.init_process_group(backend, store=store, rank=seat.rank, world_size=seat.size)


def _leading(say: Say) -> Say:
    def run(*words: Any) -> None:
        try:
            say(*words)
        except BaseException as error:
            told(STOPPED if isinstance(error, Stopped) else CANCELLED if isinstance(error, Cancelled) else FAILED)
            raise
        told(GO_ON)

    return run


def _following(*_: Any) -> None:
    code = told(GO_ON)
    if code != GO_ON:
        raise _ENDS.get(code, RuntimeError)("rank 0 was asked to end")


def _end_as_killed() -> None:
    log.error("rank.lost")
    sys.stderr.flush()
    os._exit(RANK_LOST)
