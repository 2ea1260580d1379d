"""The supervisor against real child processes that play every part a runner can."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from records import counters, jobs
from records.audit import check_log
from records.base import utc_now
from records.jobs import LeaseLost
from records.parts import Parts
from records.rows import AuditEntryRow, JobRow
from records.scratch import scratch_root
from records.states import Outcome
from tests.workers.conftest import (
    Made,
    claimed,
    job_row,
    make_model,
    make_request,
    make_settings,
    model_row,
    request_row,
)
from workers import settling
from workers.environment import environment_of
from workers.runner import STOP_AND_KEEP
from workers.settling import Ending, How, Why, settlement
from workers.supervisor import Supervisor

ACTOR = Path(__file__).with_name("actor.py")
HOUR = 3600.0


def supervisor(parts: Parts, part: str, owner: str = "me", **worker: Any) -> Supervisor:
    settings = make_settings(parts.settings.place.folder, **worker)
    command = (sys.executable, str(ACTOR), part)
    return Supervisor(parts.database, settings.worker, owner, environment_of(settings), scratch_root(settings), command)


def wait_for(true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for: {what}"
        time.sleep(0.02)


@contextmanager
def advancing(one: Supervisor, model_id: str) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=one.advance, args=(model_id,))
    thread.start()
    try:
        yield thread
    finally:
        one.stop()
        thread.join(30)
        assert not thread.is_alive()


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    return [int(line) for line in found.split()]


def tags_of(parts: Parts, job_id: str) -> list[str]:
    with parts.database.reading() as session:
        entries = session.query(AuditEntryRow).filter_by(job_id=job_id).order_by(AuditEntryRow.position)
        return [entry.tag for entry in entries]


def test_an_error_line_fails_the_job_in_its_words_and_frees_the_model(parts: Parts) -> None:
    made = make_model(parts)
    request_id, job_id = make_request(parts, made)
    assert supervisor(parts, "fails").advance(made.model_id) == 1
    job, model = job_row(parts, job_id), model_row(parts, made)
    assert (job.state, job.error_code, job.error) == ("failed", "diverged", "The loss is not a number.")
    assert request_row(parts, request_id).state == "failed"
    assert (model.head, model.lease_owner, model.lease_expires_at) == (1, None, 0.0)


def test_a_killed_runner_is_started_again_until_it_counts_as_poison(parts: Parts) -> None:
    made = make_model(parts)
    _, job_id = make_request(parts, made)
    assert supervisor(parts, "dies", max_executions=3).advance(made.model_id) == 3
    job = job_row(parts, job_id)
    assert (job.state, job.error_code, job.executions) == ("failed", "poison", 3)
    again = ["job.queued", "job.running"] * 3
    assert tags_of(parts, job_id) == [*again, "job.queued", "job.failed"]
    with parts.database.reading() as session:
        check_log(session, parts.keys.public().log_verifier_key)


def test_a_runner_that_settled_its_job_itself_is_not_settled_twice(parts: Parts) -> None:
    made = make_model(parts)
    request_id, job_id = make_request(parts, made)
    second, _ = make_request(parts, made)
    assert supervisor(parts, "settles").advance(made.model_id) == 2
    assert job_row(parts, job_id).state == "succeeded"
    assert [request_row(parts, each).outcome for each in (request_id, second)] == ["not_memorised"] * 2
    assert tags_of(parts, job_id) == ["job.queued", "job.running", "job.succeeded"]
    assert model_row(parts, made).lease_expires_at == 0.0


@pytest.mark.parametrize("part", ["polite", "deaf", "stubborn"])
def test_a_cancel_ends_a_running_job(parts: Parts, part: str) -> None:
    made = make_model(parts)
    request_id, job_id = make_request(parts, made)
    before = children_of(os.getpid())  # servers that other tests have left running
    with advancing(supervisor(parts, part, grace_seconds=0.5), made.model_id) as thread:
        wait_for(lambda: job_row(parts, job_id).progress == 0.25, "progress in the row")
        assert (job_row(parts, job_id).stage, job_row(parts, job_id).attempt) == ("unlearn", 2)
        with parts.database.transaction() as session:
            jobs.cancel(session, session.get_one(type(job_row(parts, job_id)), job_id), "key:test")
        thread.join(30)
    assert job_row(parts, job_id).state == "cancelled"
    assert request_row(parts, request_id).state == "cancelled"
    assert children_of(os.getpid()) == before


def test_a_runner_tells_a_stop_from_a_cancel() -> None:
    script = (
        "import io, os, sys; from workers.runner import *; told = Stopping(); voice = Voice(io.StringIO(), told);"
        "os.kill(os.getpid(), int(sys.argv[1])); voice.boundary()"
    )
    for number, name in ((signal.SIGTERM, "workers.errors.Cancelled"), (STOP_AND_KEEP, "workers.errors.Stopped")):
        command = [sys.executable, "-c", script, str(int(number))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1] == f"{name}: The job was asked to stop."


def test_a_stopped_worker_queues_its_job_again_without_counting_the_start(parts: Parts) -> None:
    made = make_model(parts)
    _, job_id = make_request(parts, made)
    one = supervisor(parts, "polite")
    with advancing(one, made.model_id):
        wait_for(lambda: job_row(parts, job_id).progress == 0.25, "progress in the row")
        one.stop()
    job = job_row(parts, job_id)
    assert (job.state, job.executions) == ("queued", 0)


def test_a_job_that_takes_too_long_fails(parts: Parts) -> None:
    made = make_model(parts)
    _, job_id = make_request(parts, made)
    supervisor(parts, "deaf", job_timeout_seconds=0.5).advance(made.model_id)
    job = job_row(parts, job_id)
    assert (job.state, job.error_code) == ("failed", "timeout")
    assert "0.5 seconds" in (job.error or "")


def test_a_worker_that_lost_its_lease_kills_its_runner_and_writes_nothing(parts: Parts) -> None:
    made = make_model(parts)
    _, job_id = make_request(parts, made)
    before = children_of(os.getpid())
    with advancing(supervisor(parts, "deaf", owner="first"), made.model_id) as thread:
        wait_for(lambda: job_row(parts, job_id).progress == 0.25, "progress in the row")
        with parts.database.transaction() as session:
            jobs.release_owned(session, "first")
            held = jobs.claim(session, made.model_id, "second", 60.0, 3)
        thread.join(30)
    assert held is not None
    assert children_of(os.getpid()) == before
    model, job = model_row(parts, made), job_row(parts, job_id)
    assert (model.lease_owner, model.fence, job.state) == ("second", held.fence, "running")


def test_two_supervisors_never_run_two_jobs_of_one_model_at_once(parts: Parts) -> None:
    made = make_model(parts)
    queued = [make_request(parts, made)[1] for _ in range(4)]
    both = [supervisor(parts, "fails", owner=name) for name in ("a", "b")]
    threads = [threading.Thread(target=one.advance, args=(made.model_id,)) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    rows = [job_row(parts, job_id) for job_id in queued]
    assert [row.state for row in rows] == ["failed"] * 4
    spans = [(row.started_at, row.finished_at) for row in rows]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))  # type: ignore[operator]  # both are set
    with parts.database.reading() as session:
        entries = session.query(AuditEntryRow).filter(AuditEntryRow.job_id.is_not(None))
        order = [(entry.tag, entry.job_id) for entry in entries.order_by(AuditEntryRow.position)]
    ran = [entry for entry in order if entry[0] != "job.queued"]
    assert ran == [(tag, job_id) for job_id in queued for tag in ("job.running", "job.failed")]


def test_no_runner_outlives_a_killed_supervisor_and_the_next_one_finishes(parts: Parts) -> None:
    made = make_model(parts)
    _, job_id = make_request(parts, made)
    script = (
        "import sys; from tests.workers.test_supervisor import *; from records.parts import open_parts;"
        "parts = open_parts(); supervisor(parts, 'deaf', owner='embedded', lease_seconds=60.0).advance(sys.argv[1])"
    )
    environment = {**os.environ, **environment_of(parts.settings)}
    process = subprocess.Popen([sys.executable, "-c", script, made.model_id], env=environment)
    wait_for(lambda: job_row(parts, job_id).progress == 0.25, "progress in the row")
    [runner_pid] = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    wait_for(lambda: not Path(f"/proc/{runner_pid}").exists(), "the runner's death", 5.0)
    with parts.database.transaction() as session:
        assert jobs.release_owned(session, "embedded") == 1
    assert supervisor(parts, "settles").advance(made.model_id) == 1
    assert (job_row(parts, job_id).state, job_row(parts, job_id).executions) == ("succeeded", 2)


def test_a_frozen_worker_settles_nothing_when_it_wakes(parts: Parts) -> None:
    made = make_model(parts)
    request_id, job_id = make_request(parts, made)
    script = (
        "import sys; from tests.workers.test_supervisor import *; from records.parts import open_parts;"
        "parts = open_parts(); supervisor(parts, 'deaf', owner='first', lease_seconds=1.0).advance(sys.argv[1])"
    )
    environment = {**os.environ, **environment_of(parts.settings)}
    process = subprocess.Popen([sys.executable, "-c", script, made.model_id], env=environment)
    wait_for(lambda: job_row(parts, job_id).progress == 0.25, "progress in the row")
    process.send_signal(signal.SIGSTOP)
    other = supervisor(parts, "settles", owner="second")
    wait_for(lambda: other.advance(made.model_id) == 1, "the lease to expire")
    before = tags_of(parts, job_id)
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 0
    assert tags_of(parts, job_id) == before
    assert request_row(parts, request_id).outcome == "not_memorised"
    with parts.database.reading() as session:
        assert counters.read(session)["lease_lost"] == 1


@pytest.mark.parametrize(
    ("why", "status", "code", "how"),
    [
        (Why.LOST, -9, "diverged", How.NOTHING),
        (Why.CANCELLED, -9, None, How.CANCEL),
        (Why.CANCELLED, 3, "diverged", How.CANCEL),
        (Why.STOPPING, 3, "stopped", How.QUEUE_UNCOUNTED),
        (Why.STOPPING, -9, None, How.QUEUE_UNCOUNTED),
        (Why.TIMEOUT, 3, "stopped", How.FAIL),
        (None, 3, "stopped", How.QUEUE_UNCOUNTED),
        (None, 3, "cancelled", How.CANCEL),
        (None, 3, "lease_lost", How.NOTHING),
        (None, 3, "head_moved", How.QUEUE),
        (None, 3, "disk_full", How.FAIL),
        (None, 3, "store_away", How.QUEUE_LATER),
        (None, 3, "database_away", How.QUEUE_LATER),
        (None, 3, "database_refused", How.QUEUE),
        (None, -9, None, How.QUEUE),
        (None, 0, None, How.QUEUE),
    ],
)
def test_the_table_of_endings(why: Why | None, status: int, code: str | None, how: How) -> None:
    error = {"event": "error", "code": code, "sentence": "Words."} if code else None
    assert settlement(Ending(why, status, error), HOUR).how is how


def test_a_lease_is_not_prolonged_for_a_job_that_has_ended(parts: Parts) -> None:
    held = claimed(parts)
    with parts.database.transaction() as session:
        assert jobs.renew(session, held, 60.0) is False
        jobs.finish(session, held, Outcome.NOT_MEMORISED)
    with pytest.raises(LeaseLost), parts.database.transaction() as session:
        jobs.renew(session, held, 60.0)
    assert model_row(parts, Made(held.tenant_id, held.model_id)).lease_expires_at == 0.0


def test_a_worker_stays_with_a_model_for_a_time_and_then_takes_the_most_urgent(parts: Parts) -> None:
    urgent, at_hand = make_model(parts), make_model(parts)
    queued = [make_request(parts, made)[1] for made in (at_hand, urgent, at_hand, at_hand, urgent)]
    with parts.database.transaction() as session:
        for job_id, days in zip(queued, (0, 1, 9, 9, 1), strict=True):
            session.get_one(JobRow, job_id).run_by = utc_now() + timedelta(days=days)
    stays = supervisor(parts, "fails", affinity_seconds=HOUR)
    assert stays.advance("") == 5
    assert started_in_order(parts) == [queued[0], queued[2], queued[3], queued[1], queued[4]]
    more = [make_request(parts, made)[1] for made in (at_hand, urgent)]
    with parts.database.transaction() as session:
        session.get_one(JobRow, more[1]).run_by = utc_now() - timedelta(days=1)
    wanders = supervisor(parts, "fails", affinity_seconds=0.0)
    wanders.affinity.took(at_hand.model_id)
    assert wanders.advance("") == 2
    assert started_in_order(parts)[-2:] == [more[1], more[0]]


def started_in_order(parts: Parts) -> list[str | None]:
    with parts.database.reading() as session:
        entries = session.query(AuditEntryRow).filter_by(tag="job.running").order_by(AuditEntryRow.position)
        return [entry.job_id for entry in entries]


def test_a_worker_takes_only_what_it_serves(parts: Parts) -> None:
    made = make_model(parts)
    _, job_id = make_request(parts, made)
    with parts.database.transaction() as session:
        session.get_one(JobRow, job_id).needs = "1gpu"
    assert supervisor(parts, "fails", worker_serves=("cpu",)).advance(made.model_id) == 0
    assert supervisor(parts, "fails", worker_serves=("1gpu",)).advance(made.model_id) == 1


def test_a_store_that_is_away_costs_time_and_no_start(parts: Parts) -> None:
    made = make_model(parts)
    _, job_id = make_request(parts, made)
    one = supervisor(parts, "away", retry_seconds=HOUR)
    assert one.advance(made.model_id) == 1
    job, model = job_row(parts, job_id), model_row(parts, made)
    assert (job.state, job.executions, model.lease_owner) == ("queued", 0, None)
    assert one.advance(made.model_id) == 0, "not before retry_seconds are over"


def test_an_end_that_could_not_be_written_at_once_is_written_later(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_model(parts)
    _, job_id = make_request(parts, made)
    tries = itertools.count()

    def settle(*arguments: Any) -> None:
        if next(tries) < 2:
            raise OperationalError("COMMIT", {}, Exception("gone"))
        real_settle(*arguments)

    real_settle = settling.settle
    monkeypatch.setattr("workers.supervisor.settle", settle)
    assert supervisor(parts, "fails").advance(made.model_id) == 1
    assert (next(tries), job_row(parts, job_id).state) == (3, "failed")


def test_a_database_that_is_away_when_work_is_looked_for_is_no_error(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_model(parts)
    make_request(parts, made)

    def away(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr("workers.supervisor.claim_next", away)
    assert supervisor(parts, "fails").advance(made.model_id) == 0
