"""kill -9 at every place, broken weights, full disks, too little memory, a lost lease: the head stays, work goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from records import jobs, versions
from records.manifest import Manifest
from records.parts import Parts
from records.rows import AttemptRow, JobRow
from records.scratch import scratch_root
from records.versions import Files
from tests.workers.conftest import Made, job_row, make_settings, model_row, request_row
from tests.workers.people_model import forget_person, import_folder, make_people_model, put_dataset, rows_of
from tests.workers.test_pipeline import audit_counts, supervisor_of, version_row
from tests.workers.test_supervisor import children_of, wait_for
from workers.environment import environment_of
from workers.supervisor import Supervisor

pytestmark = pytest.mark.slow

STAGES = ("load", "unlearn", "evaluate", "stored")
PLACES = ("load", "unlearn", "evaluate", "publish", "stored", "committed")
ONE_LIFE = {  # of a job that was forgotten at its first attempt, however often it was started
    "version.candidate": 2,
    "version.published": 2,
    "version.superseded": 1,
    "attempt.finished": 1,
    "job.succeeded": 1,
    "request.completed": 1,
}


def dying(parts: Parts, script: list[tuple[str, str]], counter: Path, **worker: float) -> Supervisor:
    settings = make_settings(parts.settings.place.folder, max_executions=20, **worker)
    command = (sys.executable, "-m", "tests.workers.dying_runner", json.dumps(script), str(counter))
    return Supervisor(
        parts.database, settings.worker, "embedded", environment_of(settings), scratch_root(settings), command
    )


def attempts_of(parts: Parts, job_id: str) -> list[AttemptRow]:
    with parts.database.reading() as session:
        return jobs.attempts_of(session, job_id)


def assert_forgotten_once(parts: Parts, made: Made, request_id: str) -> None:
    assert (request_row(parts, request_id).outcome, model_row(parts, made).head) == ("forgotten", 2)
    counts = audit_counts(parts)
    assert {tag: counts.get(tag, 0) for tag in ONE_LIFE} == ONE_LIFE
    assert version_row(parts, made, 3) is None


def test_a_runner_killed_at_every_place_still_publishes_exactly_once(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, job_id = forget_person(parts, made, "Ada")
    counter = tmp_path / "executions"
    one = dying(parts, [(place, "self") for place in PLACES], counter)
    assert one.advance(made.model_id) == len(PLACES)
    assert len(counter.read_bytes()) == len(PLACES)
    assert job_row(parts, job_id).executions == len(PLACES)
    assert_forgotten_once(parts, made, request_id)


def test_a_runner_killed_between_two_steps_goes_on_from_the_last_epoch_to_the_same_weights(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    weights = []
    for place in ("midway", "never"):
        made = make_people_model(parts, llm_folder)
        request_id, job_id = forget_person(parts, made, "Ada", stop_ratio=0.5)
        one = dying(parts, [(place, "self")], tmp_path / place, checkpoint_seconds=0.0)
        assert one.advance(made.model_id) == (2 if place == "midway" else 1)
        assert request_row(parts, request_id).outcome == "forgotten"
        [attempt] = attempts_of(parts, job_id)
        resumed = [note for note in (attempt.report or {})["notes"] if "went on from step" in note]
        assert len(resumed) == (place == "midway")
        row = version_row(parts, made, 2)
        assert row is not None
        weights.append(Manifest.from_json(parts.store.read_bytes(row.manifest_digest)).find("model.safetensors"))
    assert weights[0] is not None
    assert weights[0] == weights[1]
    assert list(scratch_root(parts.settings).iterdir()) == []


def test_a_job_of_two_ranks_outlives_the_death_of_either_at_every_place(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, job_id = forget_person(parts, made, "Ada")
    script = [("load", "rank"), ("midway", "rank"), ("midway", "self"), ("evaluate", "rank"), ("stored", "rank")]
    one = dying(parts, script, tmp_path / "executions", worker_processes=2, checkpoint_seconds=0.0)
    assert one.advance(made.model_id) == len(script), "the rank that died when all was stored was not missed"
    assert job_row(parts, job_id).executions == len(script)
    assert_forgotten_once(parts, made, request_id)
    assert list(scratch_root(parts.settings).iterdir()) == []


def test_a_service_killed_at_every_place_leaves_no_runner_and_publishes_exactly_once(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, _ = forget_person(parts, made, "Ada")
    script = [(place, "parent") for place in STAGES]
    counter = tmp_path / "executions"
    service = (
        "import sys, json; from pathlib import Path; from records.parts import open_parts;"
        "from tests.workers.test_faults import dying; parts = open_parts();"
        "one = dying(parts, json.loads(sys.argv[2]), Path(sys.argv[3]), lease_seconds=600.0);"
        "one.take_over(); one.advance(sys.argv[1])"
    )
    command = [sys.executable, "-c", service, made.model_id, json.dumps(script), str(counter)]
    for place in (*STAGES, None):
        process = subprocess.Popen(command, env={**os.environ, **environment_of(parts.settings)})
        wait_for(lambda: bool(children_of(process.pid)) or process.poll() is not None, "a runner", 60.0)  # noqa: B023
        runners = children_of(process.pid)
        assert process.wait(120) == (-signal.SIGKILL if place else 0), place
        wait_for(lambda: not any(map(running, runners)), "the runner's death", 5.0)  # noqa: B023
    assert_forgotten_once(parts, made, request_id)
    assert list(scratch_root(parts.settings).iterdir()) == []


def running(pid: int) -> bool:
    """Zombies are not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_job_killed_between_rejected_attempts_goes_on_behind_them_and_is_rejected_in_the_end(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, job_id = forget_person(parts, made, "Ada", learning_rate=1e-8, epochs=1)
    dying(parts, [("unlearn2", "self")], tmp_path / "executions").advance(made.model_id)
    attempts = attempts_of(parts, job_id)
    assert [one.verdict for one in attempts] == ["rejected"] * 3
    assert job_row(parts, job_id).executions == 2
    assert [one.parameters["epochs"] for one in attempts] == [1, 2, 2]
    assert (job_row(parts, job_id).state, request_row(parts, request_id).state) == ("rejected", "failed")
    assert "None of 3 attempts" in (request_row(parts, request_id).reason or "")
    assert model_row(parts, made).head == 1
    assert audit_counts(parts)["attempt.finished"] == 3


def test_a_cancel_stops_a_real_runner_at_a_step(parts: Parts, llm_folder: Path) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, job_id = forget_person(parts, made, "Ada", learning_rate=1e-8, epochs=500, stop_ratio=0.1)
    one = supervisor_of(parts, grace_seconds=60.0)
    thread = threading.Thread(target=one.advance, args=(made.model_id,))
    thread.start()
    wait_for(lambda: job_row(parts, job_id).stage == "unlearn", "the unlearn stage", 60.0)
    with parts.database.transaction() as session:
        jobs.cancel(session, session.get_one(JobRow, job_id), "key:test")
    thread.join(60)
    assert (request_row(parts, request_id).state, model_row(parts, made).head) == ("cancelled", 1)
    assert attempts_of(parts, job_id) == []


def test_a_version_of_broken_weights_fails_the_job_in_words(parts: Parts, llm_folder: Path) -> None:
    made = broken_model(parts, llm_folder)
    request_id, job_id = forget_person(parts, made, "Ada")
    supervisor_of(parts).advance(made.model_id)
    job = job_row(parts, job_id)
    assert (job.state, job.error_code, request_row(parts, request_id).state) == ("failed", "diverged", "failed")
    assert "not numbers" in (job.error or "")
    assert (model_row(parts, made).head, model_row(parts, made).lease_expires_at) == (1, 0.0)


def broken_model(parts: Parts, llm_folder: Path) -> Made:
    """A version whose weights hold NaN."""
    folder = parts.settings.place.folder / "broken"
    shutil.copytree(llm_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.full_like(tensors["model.norm.weight"], float("nan"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    made = import_folder(parts, folder)
    put_dataset(parts, made, "retain", rows_of(["Bo", "Cy"]))
    return made


def test_training_that_diverges_every_time_fails_the_job_and_the_next_request_runs(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    made = make_people_model(parts, llm_folder)
    _, job_id = forget_person(parts, made, "Ada")
    after, _ = forget_person(parts, made, "Bo")
    assert dying(parts, [("poisoned", "")], tmp_path / "executions").advance(made.model_id) == 2
    job, attempts = job_row(parts, job_id), attempts_of(parts, job_id)
    assert (job.state, job.error_code, job.executions) == ("failed", "diverged", 1)
    assert [(one.verdict, one.reason.partition(":")[0]) for one in attempts] == [(None, "diverged")] * 3
    rates = [one.parameters["learning_rate"] for one in attempts]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[2]
    assert (request_row(parts, after).outcome, model_row(parts, made).head) == ("forgotten", 2)


def test_a_full_disk_fails_the_job_in_words_and_the_next_request_runs(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    made = make_people_model(parts, llm_folder)
    full, full_job = forget_person(parts, made, "Ada")
    after, _ = forget_person(parts, made, "Bo")
    assert dying(parts, [("full", "")], tmp_path / "executions").advance(made.model_id) == 2
    job = job_row(parts, full_job)
    assert (job.state, job.error_code) == ("failed", "store_full")
    assert "disk is full" in (request_row(parts, full).reason or "")
    [attempt] = attempts_of(parts, full_job)
    assert (attempt.verdict, attempt.reason.partition(":")[0]) == (None, "store_full")
    assert (request_row(parts, after).outcome, model_row(parts, made).head) == ("forgotten", 2)


def test_an_attempt_that_ran_out_of_memory_is_followed_by_one_with_smaller_steps_in_memory(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    made = make_people_model(parts, llm_folder)
    _, job_id = forget_person(parts, made, "Ada")
    assert dying(parts, [("unlearn", "memory")], tmp_path / "executions").advance(made.model_id) == 1
    starved, accepted = attempts_of(parts, job_id)
    assert (starved.verdict, starved.reason.partition(":")[0], accepted.verdict) == (None, "out_of_memory", "accepted")
    assert (starved.parameters["micro_batch_size"], accepted.parameters["micro_batch_size"]) == (None, 2)
    assert accepted.parameters["learning_rate"] == starved.parameters["learning_rate"]
    assert model_row(parts, made).head == 2


def test_a_head_that_moved_meanwhile_sends_the_job_back_to_run_on_the_new_head(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, job_id = forget_person(parts, made, "Ada")
    assert dying(parts, [("publish", "head")], tmp_path / "executions").advance(made.model_id) == 2
    job = job_row(parts, job_id)
    assert (job.executions, job.base_version, job.state) == (2, 2, "succeeded")
    assert (request_row(parts, request_id).version_number, model_row(parts, made).head) == (3, 3)
    assert len(attempts_of(parts, job_id)) == 1


def test_a_worker_that_slept_through_its_lease_cannot_publish(parts: Parts, llm_folder: Path) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, _ = forget_person(parts, made, "Ada")
    with parts.database.transaction() as session:
        stale = jobs.claim(session, made.model_id, "frozen", 0.01, 9)
    assert stale is not None
    wait_for(lambda: supervisor_of(parts, owner="second").advance(made.model_id) == 1, "the lease to expire", 60.0)
    counts = audit_counts(parts)
    with parts.database.transaction() as session:
        number = versions.next_number(session, made.model_id)
    files = Files("sha256:" + "1" * 64, 1)
    with pytest.raises(jobs.LeaseLost), parts.database.transaction() as session:
        versions.publish(session, stale, number, files)
    assert audit_counts(parts) == counts
    assert_forgotten_once(parts, made, request_id)
