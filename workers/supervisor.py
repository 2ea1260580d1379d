"""Runs the jobs of a model, one after another, each in a child process, and holds the model's lease meanwhile.

`advance` is all there is: claim, start the runner, watch it, settle. Watching is one loop in the thread that started
the child: it renews the lease, relays progress, and ends the child when somebody cancels, when time is up, when this
process is told to stop, or when the lease is gone. Nothing here loads a tensor library.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from records import counters, jobs, logs, tracing
from records.capabilities import served
from records.counters import Event
from records.database import Database, DatabaseTrouble
from records.dispatch import claim_next
from records.jobs import Claim, LeaseLost
from records.rows import JobRow
from records.scratch import sweep_scratch
from records.settings import WorkerSettings
from records.states import TERMINAL_JOB_STATES, Stage
from workers.checkpoint_folders import over_in, sweep_checkpoints
from workers.child import RUNNER, Child, start
from workers.settling import Ending, Settlement, Why, settle, settlement

log = structlog.get_logger()


@dataclass
class Affinity:
    """The model this process had last, and since when: its weights may still be near."""

    model_id: str | None = None
    since: float = 0.0

    def took(self, model_id: str) -> None:
        if model_id != self.model_id:
            self.model_id, self.since = model_id, time.monotonic()

    def preferred(self, longest_seconds: float) -> str | None:
        """The model, unless it was preferred for long enough: then the most urgent one has its turn."""
        return self.model_id if time.monotonic() - self.since < longest_seconds else None


@dataclass(frozen=True)
class Supervisor:
    """One per process. `owner` names the process in leases; `environment` is what its runners get on top of ours."""

    database: Database
    settings: WorkerSettings
    owner: str
    environment: Mapping[str, str]
    scratch: Path
    command: tuple[str, ...] = RUNNER
    stopping: threading.Event = field(default_factory=threading.Event)
    affinity: Affinity = field(default_factory=Affinity)

    def advance(self, model_id: str) -> int:
        """Run jobs until none is claimable; returns how many were started.

        The hint's model is only what woke us: the database says what is most urgent.
        """
        log.debug("hint.taken", model_id=model_id)
        started = 0
        while not self.stopping.is_set() and (held := self._claim()) is not None:
            started += 1
            self._run(held)
        return started

    def _claim(self) -> Claim | None:
        """None when nothing waits that this worker serves, or the database is away: a later hint finds it again."""
        settings, prefer = self.settings, self.affinity.preferred(self.settings.affinity_seconds)
        began = time.monotonic()
        try:
            with self.database.transaction() as session:
                held = claim_next(
                    session,
                    self.owner,
                    settings.lease_seconds,
                    settings.max_executions,
                    served(settings.worker_serves),
                    prefer,
                )
        except DatabaseTrouble as error:
            log.warning("claim.failed", error=type(error).__name__)
            return None
        if held is not None:
            self.affinity.took(held.model_id)
            tracing.past("claim", time.monotonic() - began, parent=held.traceparent)
        return held

    def take_over(self) -> int:
        """Free the leases of a former process of this `owner`, and its folders; returns how many leases.

        Only for an owner name that no other living process has.
        """
        sweep_scratch(self.scratch)
        sweep_checkpoints(self.scratch, over_in(self.database))
        with self.database.transaction() as session:
            return jobs.release_owned(session, self.owner)

    def stop(self) -> None:
        """Ask running jobs to end and be queued again, and start none. Safe from any thread."""
        self.stopping.set()

    def _run(self, held: Claim) -> None:
        ids: tracing.Attributes = {"lethe.job_id": held.job_id, "lethe.model_id": held.model_id}
        if held.waited_seconds is not None:
            tracing.past("wait", held.waited_seconds, ids, held.traceparent)
        with logs.bound_to(held), tracing.span("job", ids, held.traceparent):
            self._run_to_its_end(replace(held, traceparent=tracing.here()))

    def _run_to_its_end(self, held: Claim) -> None:
        child = start(self.command, self.environment, held)
        log.info("job.started", fence=held.fence, runner_pid=child.pid)
        watch = _Watch(self, held, child)
        try:
            why = watch.until_the_end()
        finally:
            status = child.kill()  # whatever happened, nothing of the job outlives this call
            sweep_scratch(self.scratch)
        end = Ending(why, status, watch.error or _error_in(child.rest()))
        if why is Why.LOST:
            counters.count(self.database, Event.LEASE_LOST)
        self._settle(held, settlement(end, self.settings.job_timeout_seconds))
        sweep_checkpoints(self.scratch, over_in(self.database))

    def _settle(self, held: Claim, end: Settlement) -> None:
        """Write the end, however often it takes: after a lease's time another worker has the job, and knows nothing."""
        give_up_at = time.monotonic() + self.settings.lease_seconds
        while (how := self._written(held, end)) is None and time.monotonic() < give_up_at:
            if self.stopping.wait(self.settings.renew_seconds):
                break
        code = end.code if how == end.how else ""
        log.info("job.ended", how=str(how or "not_written"), code=code)

    def _written(self, held: Claim, end: Settlement) -> str | None:
        """What became of the job; None if the database is away."""
        try:
            with self.database.transaction() as session:
                settle(session, held, end, self.settings.retry_seconds)
        except LeaseLost:  # the runner has written the end itself, or the job is another worker's
            return "not_ours_to_write"
        except DatabaseTrouble as error:
            log.warning("job.not_settled", error=type(error).__name__)
            return None
        return str(end.how)


@dataclass
class _Watch:
    """The state of one watch: what the runner said last, and how long the lease is known to be good."""

    supervisor: Supervisor
    held: Claim
    child: Child
    error: dict[str, Any] | None = None
    news: dict[str, Any] | None = None
    why: Why | None = None
    kill_at: float = float("inf")

    def until_the_end(self) -> Why | None:
        """Returns when the runner has ended or must be killed, and why it was told to end, if it was."""
        settings = self.supervisor.settings
        began = renewed = time.monotonic()
        next_renewal = began
        while self.child.poll() is None and time.monotonic() < self.kill_at:
            now = time.monotonic()
            if now >= next_renewal:
                next_renewal = now + settings.renew_seconds
                renewed = now if self._renew() else renewed
            if now - renewed > settings.lease_seconds:
                self.why = Why.LOST
            if self.why is Why.LOST:
                break
            if now - began > settings.job_timeout_seconds:
                self._end(Why.TIMEOUT)
            if self.supervisor.stopping.is_set():
                self._end(Why.STOPPING)
            self._listen(min(next_renewal, self.kill_at) - time.monotonic())
        return self.why

    def _listen(self, timeout_seconds: float) -> None:
        line = self.child.next_line(timeout_seconds)
        if line is None:
            return
        if line["event"] == "error":
            self.error = line
        elif line["event"] == "progress":
            self.news = line

    def _renew(self) -> bool:
        """Prolong the lease and pass progress on. A database that is away for a moment costs nothing but time."""
        try:
            with self.supervisor.database.transaction() as session:
                cancelled = jobs.renew(session, self.held, self.supervisor.settings.lease_seconds)
                if self.news is not None:
                    stage, attempt = Stage(self.news["stage"]), int(self.news["attempt"])
                    jobs.set_progress(session, self.held, stage, attempt, float(self.news["progress"]))
        except LeaseLost:
            return self._lease_gone()
        except DatabaseTrouble as error:
            log.warning("lease.not_renewed", error=type(error).__name__)
            return False
        self.news = None
        if cancelled:
            self._end(Why.CANCELLED)
        return True

    def _lease_gone(self) -> bool:
        """Either the runner has settled the job, and may tidy up, or another worker has it, and it must die at once."""
        try:
            with self.supervisor.database.reading() as session:
                settled = session.get_one(JobRow, self.held.job_id).state in TERMINAL_JOB_STATES
        except DatabaseTrouble as error:
            log.warning("lease.not_renewed", error=type(error).__name__)
            return False
        if settled and self.kill_at == float("inf"):
            self.kill_at = time.monotonic() + self.supervisor.settings.grace_seconds
        elif not settled:
            self.why = Why.LOST
        return False

    def _end(self, why: Why) -> None:
        if self.why is None:
            self.why = why
            self.kill_at = time.monotonic() + self.supervisor.settings.grace_seconds
            self.child.ask_to_stop(goes_on=why is Why.STOPPING)


def _error_in(lines: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((line for line in lines if line["event"] == "error"), None)
