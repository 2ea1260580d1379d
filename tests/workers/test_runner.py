"""The parts round a runner: words for errors, the way on after a miss, folders of the dead, settings handed on."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file
from sqlalchemy.exc import OperationalError

from records import outbox
from records.outbox import post
from records.params import UndialParameters
from records.parts import Parts, Settings
from records.policy import Policy
from records.queue import ADVANCE
from records.report import VerdictKind
from records.rows import AttemptRow
from records.scratch import scratch_folder, sweep_scratch
from records.settings import DatabaseSettings, HttpSettings, Place, WorkerSettings
from records.states import Stage
from records.store import StoreFull
from tests.workers.conftest import job_row, make_model, make_request
from tests.workers.test_gate import KNOWN, group, report
from tests.workers.test_supervisor import supervisor, wait_for
from workers import errors, sweeper
from workers.attempts import failed_reason, miss_of, misses_of, next_attempt
from workers.checkpoint_folders import checkpoint_folder, sweep_checkpoints
from workers.environment import environment_of
from workers.failures import Failure, explain
from workers.gate import decide
from workers.progress import share_of_job
from workers.runner import ORPHANED
from workers.sweeper import Chore, Sweeper, send_hints
from workers.tasks import register

GIVEN = UndialParameters(batch_size=16)
NAME = "Ada Lovelace"


def raised_by_torch() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


def raised_by_a_bad_file(folder: Path) -> SafetensorError:
    (folder / "bad.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(SafetensorError) as caught:
        load_file(folder / "bad.safetensors")
    return caught.value


def test_every_error_has_a_code_and_a_sentence_without_data(tmp_path: Path) -> None:
    told = {
        "stopped": errors.Cancelled("The job was asked to stop."),
        "diverged": errors.Diverged("the loss is not a number at step 3"),
        "out_of_memory": raised_by_torch(),
        "version_unreadable": raised_by_a_bad_file(tmp_path),
        "store_full": StoreFull("The store's disk is full."),
        "database_away": OperationalError(NAME, None, Exception(NAME)),
        "unexpected": ValueError(NAME),
    }
    assert {code: explain(error).code for code, error in told.items()} == {code: code for code in told}
    assert explain(OSError(errno.ENOSPC, NAME)).code == "disk_full"
    assert explain(MemoryError()).code == "out_of_memory"
    assert explain(OSError(errno.EACCES, NAME)).code == "unexpected"
    assert "ValueError" in explain(told["unexpected"]).sentence
    assert not any(NAME in explain(error).sentence for error in told.values())


def test_weights_that_do_not_fit_on_the_disk_are_told_as_a_full_disk(tmp_path: Path) -> None:
    code = """if True:
        import resource, sys, torch
        from safetensors.torch import save_file
        from workers.failures import explain
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            save_file({"a": torch.zeros(100_000)}, sys.argv[1])
        except Exception as error:
            print(type(error).__name__, explain(error).code)
    """
    command = [sys.executable, "-c", code, str(tmp_path / "x.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["SafetensorError", "disk_full"]


def test_running_out_of_memory_changes_the_micro_batch_and_nothing_else() -> None:
    again = next_attempt(GIVEN, ["memory"]).parameters
    assert again == GIVEN.model_copy(update={"micro_batch_size": 4})
    assert next_attempt(GIVEN, ["memory", "memory"]).parameters.micro_batch_size == 1
    stronger = next_attempt(GIVEN, ["memory", "forgetting"]).parameters
    assert (stronger.target, stronger.micro_batch_size) == ("floor", 4)


def test_after_divergence_steps_are_smaller_and_after_a_leak_forgetting_is_stronger() -> None:
    diverged = miss_of(Failure("diverged", "words"))
    assert next_attempt(GIVEN, [diverged]).parameters.learning_rate < GIVEN.learning_rate
    assert next_attempt(GIVEN, ["forgetting"]).parameters.target == "floor"
    assert next_attempt(GIVEN, []).parameters == GIVEN
    assert failed_reason(Failure("diverged", "Words.")) == "diverged: Words."


def test_a_rejected_attempt_that_had_to_go_back_took_steps_that_were_too_large() -> None:
    leaking = report(forget=group([KNOWN] * 10, [KNOWN] * 10))
    for rollbacks, miss in ((0, "forgetting"), (1, "utility")):
        done = leaking.model_copy(update={"training": {"rollbacks": rollbacks}})
        verdict = decide(done, Policy())
        judged = done.model_copy(update={"checks": verdict.checks})
        assert verdict.kind is VerdictKind.REJECTED
        for told in (judged, done):  # a report of before checks were kept is judged again
            row = AttemptRow(verdict=str(verdict.kind), reason="words", report=told.model_dump(mode="json"))
            assert misses_of([row], Policy()) == [miss]


@given(moves=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([Stage.UNLEARN, Stage.EVALUATE]), st.floats(0, 1))))
def test_progress_never_falls(moves: list[tuple[int, Stage, float]]) -> None:
    order = {Stage.UNLEARN: 0, Stage.EVALUATE: 1}
    moves.sort(key=lambda move: (move[0], order[move[1]], move[2]))
    shares = [share_of_job(Stage.LOAD, 0, 1.0), *(share_of_job(stage, at, share) for at, stage, share in moves)]
    shares.append(share_of_job(Stage.PUBLISH, 1, 0.0))
    assert shares == sorted(shares)
    assert shares[0] >= 0.0
    assert shares[-1] < 1.0


def test_only_the_folders_of_the_dead_are_swept(tmp_path: Path) -> None:
    root = tmp_path / "scratch"
    dead = "import os, sys; from pathlib import Path; from records.scratch import scratch_folder\n"
    dead += "with scratch_folder(Path(sys.argv[1]), 'dead') as f: (f / 'x').write_text('x'); os._exit(9)"
    subprocess.run([sys.executable, "-c", dead, str(root)], check=False)
    assert (root / "dead" / "x").exists()
    with scratch_folder(root, "living") as folder:
        assert sweep_scratch(root) == 1
        assert folder.is_dir()
    assert list(root.iterdir()) == []
    assert sweep_scratch(tmp_path / "nowhere") == 0


def test_a_removal_that_was_cut_short_is_gone_on_with(tmp_path: Path) -> None:
    """Killed with the first folder or file gone, whichever it is: the weights beside it must not stay for ever."""
    dying = (
        "import os, shutil, sys; from pathlib import Path; from records.scratch import scratch_folder\n"
        "def cut_short(function):\n"
        "    return lambda *given, **named: (function(*given, **named), os._exit(9))\n"
        "with scratch_folder(Path(sys.argv[1]), 'dying') as folder:\n"
        "    for name in ('base', 'candidate-1'):\n"
        "        (folder / name).mkdir()\n"
        "        (folder / name / 'model.safetensors').write_text('weights')\n"
        "    (folder / 'ranks-1').write_text('')\n"
        "    os.unlink, os.rmdir = cut_short(os.unlink), cut_short(os.rmdir)\n"
    )
    assert subprocess.run([sys.executable, "-c", dying, str(tmp_path)], check=False).returncode == 9
    assert (tmp_path / "dying").is_dir()
    assert sweep_scratch(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_of_jobs_that_are_over_or_a_day_old_are_swept(tmp_path: Path) -> None:
    for job_id in ("job_over", "job_waits", "job_forgotten"):
        checkpoint_folder(tmp_path, job_id).mkdir()
    long_ago = time.time() - 25 * 3600
    os.utime(checkpoint_folder(tmp_path, "job_forgotten"), (long_ago, long_ago))
    with scratch_folder(tmp_path, "job_over.7") as folder:
        assert sweep_scratch(tmp_path) == 0
        assert sweep_checkpoints(tmp_path, lambda job_id: job_id == "job_over") == 2
        assert set(tmp_path.iterdir()) == {checkpoint_folder(tmp_path, "job_waits"), folder}
    assert sweep_checkpoints(tmp_path / "nowhere", lambda _: True) == 0


def test_a_child_reads_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        place=Place(data_dir=tmp_path),
        database=DatabaseSettings.model_validate({"database_url": "sqlite:////x.db"}),
        http=HttpSettings(import_roots=(tmp_path / "a", tmp_path / "b")),
        worker=WorkerSettings(lease_seconds=7.5, worker_threads=2, device="cpu"),
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_a_runner_whose_parent_is_already_gone_ends_before_it_starts() -> None:
    done = subprocess.run([sys.executable, "-m", "workers.runner", "1"], input=b"{}", check=False, timeout=60)
    assert done.returncode == ORPHANED


def test_a_runner_that_crashes_leaves_no_core_file() -> None:
    """Nor does what it starts: the limit is inherited, and nobody below may raise it."""
    code = (
        "import os, resource, subprocess, sys; from workers import runner;"
        "_, hard = resource.getrlimit(resource.RLIMIT_CORE); resource.setrlimit(resource.RLIMIT_CORE, (hard, hard));"
        "runner._run = lambda *_: subprocess.run(['sh', '-c', 'ulimit -Sc; ulimit -Hc'], stdout=sys.stderr);"
        "sys.argv.append(str(os.getppid())); sys.exit(runner.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], input="{}", capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["0", "0"]


def test_the_supervisors_side_never_loads_a_tensor_library() -> None:
    code = "import sys, workers.tasks, workers.sweeper; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_sweep_sends_what_was_not_sent_and_a_hint_for_work_that_nobody_holds(parts: Parts) -> None:
    made = make_model(parts)
    make_request(parts, made)
    with parts.database.transaction() as session:
        post(session, "hint", {"model_id": "mod_lost"})
    sent: list[tuple[str, dict[str, str]]] = []
    send = lambda topic, body: sent.append((topic, body))  # noqa: E731 - two calls take it
    assert outbox.relay(parts.database, send) == 1
    assert send_hints(parts.database, send, lambda _: 0) == 1
    assert sent == [("hint", {"model_id": "mod_lost"}), ("hint", {"model_id": made.model_id, "needs": "cpu"})]
    assert outbox.relay(parts.database, send) == 0
    assert send_hints(parts.database, send, lambda _: 0) == 1, "the job still waits"
    assert send_hints(parts.database, send, lambda _: 1) == 0, "its hint still waits too"


def test_a_sweeper_goes_on_after_the_broker_was_away(parts: Parts) -> None:
    made = make_model(parts)
    make_request(parts, made)
    calls: list[str] = []

    def send(_topic: str, body: dict[str, str]) -> None:
        calls.append(body["model_id"])
        if len(calls) == 1:
            raise ConnectionError("away")

    chores = (
        Chore("hints", lambda: send_hints(parts.database, send, lambda _: 0)),
        Chore("after", lambda: calls.append("after")),
    )
    one = Sweeper(parts.database, chores, 0.05)
    one.start()
    wait_for(lambda: len(calls) >= 4, "a second sweep")
    one.stop()
    assert not one.is_alive()
    assert calls[:4] == [made.model_id, "after"] * 2


def test_a_long_sweep_is_no_sign_of_death_and_one_that_hangs_is(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who watches the file would end a healthy worker, and its job, in each sweep in which the store is away."""
    may_end, alive = threading.Event(), tmp_path / "alive"
    one = Sweeper(parts.database, [Chore("long", lambda: may_end.wait(30))], 0.05, alive)
    one.start()
    wait_for(lambda: one._busy_since is not None and alive.exists(), "a sweep")
    alive.unlink()
    wait_for(alive.exists, "a sign of life during the sweep")
    monkeypatch.setattr(sweeper, "STUCK_SECONDS", 0.0)
    assert not is_touched(alive)
    may_end.set()
    wait_for(alive.exists, "one after it")
    one.stop()
    assert not is_touched(alive), "who has ended shows none"


def is_touched(alive: Path) -> bool:
    """Whether it is within several times as long as it may take, once what goes on has ended."""
    time.sleep(0.2)
    alive.unlink(missing_ok=True)
    time.sleep(0.5)
    return alive.exists()


def test_the_task_runs_the_jobs_of_the_model_in_its_message(parts: Parts) -> None:
    made = make_model(parts)
    _, job_id = make_request(parts, made)
    register(parts.queue, supervisor(parts, "fails"))
    parts.queue.tasks[ADVANCE](made.model_id)
    assert job_row(parts, job_id).state == "failed"
