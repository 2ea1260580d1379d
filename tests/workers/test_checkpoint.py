"""A run that was killed goes on from the last end of an epoch, to the same bits as one that was not."""

import errno
import json
import math
import os
import stat

import pytest
import torch
from safetensors import safe_open
from structlog.testing import capture_logs

from tests.make_people import TRAINED, both_phrasings, memorised, people
from workers import checkpoint as files
from workers.checkpoint import STATE, Checkpoint, CheckpointFile, read, write
from workers.errors import Cancelled, Stopped
from workers.good_step import GoodStep, Place, Trained
from workers.loop import UnlearnWork, unlearn

torch.set_num_threads(1)

OTHERS = people(TRAINED[2:])
LONE = {"rewordings": 0}  # one row an item: two steps an epoch
KINDS = {
    "undial": LONE
    | {"learning_rate": 1e-3, "target": "floor", "batch_size": 2, "warmup_steps": 5, "schedule": "linear"},
    "undial-limited": LONE | {"learning_rate": 1e-3, "batch_size": 2, "update_limit": 0.01, "conflict_scope": "tensor"},
    "undial-lora": LONE | {"learning_rate": 5e-3, "tuning": "lora", "lora_rank": 4, "batch_size": 2},
    "rmu": {"learning_rate": 1e-3, "layer": 1, "retain_weight": 1.0, "batch_size": 2},
    "falcon": {"learning_rate": 1e-3, "layer": 1, "batch_size": 2},
}
NOTHING_DIVIDED = Trained({}, torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))]))
JOB = {"job": "job_1", "attempt": 1, "base": "sha256:0"}


@pytest.fixture(autouse=True)
def however_slow_the_disk(monkeypatch):
    """Written at the end of each epoch, whatever time that takes."""
    monkeypatch.setattr(files, "SHARE_OF_TIME", math.inf)


class Killed(BaseException):
    """Nothing in the run can catch it, like the signal it stands for."""


def run(kind, folder=None, die_at=None, belongs_to=JOB, harm=None, death=Killed, seconds=0.0, **parameters):
    llm, tokenizer = memorised()
    work = UnlearnWork(
        forget=people(TRAINED[:1]),
        replay=people(TRAINED[1:2]),
        retain=both_phrasings(OTHERS),
        control_level=0.02,
        method=kind.partition("-")[0],
        parameters=KINDS[kind] | {"epochs": 6, "stop_ratio": 0.1} | parameters,
    )
    left = None if folder is None else Checkpoint(folder, belongs_to, seconds)
    seen = []

    def on_step(progress):
        seen.append(progress.step)
        if harm is not None:
            with torch.no_grad():
                harm(llm, progress)
        if progress.step == die_at:
            raise death

    try:
        return llm, seen, unlearn(llm, tokenizer, work, on_step, checkpoint=left)
    except (Killed, Cancelled):
        return llm, seen, None


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_gone_on_with_is_as_if_nothing_had_happened(kind, tmp_path):
    whole, steps, summary = run(kind)
    assert len(steps) > 6, "the run must outlive the kill"
    run(kind, tmp_path / "left", die_at=5)
    again, seen, resumed = run(kind, tmp_path / "left")
    assert seen[0] == 5, "two steps an epoch: the last end of one was after step 4"
    assert (seen[-1], resumed.steps, resumed.epochs) == (steps[-1], summary.steps, summary.epochs)
    assert (resumed.forget_loss, resumed.retain_loss) == (summary.forget_loss, summary.retain_loss)
    assert (resumed.known_items, resumed.findings) == (summary.known_items, summary.findings)
    assert "training was interrupted and went on from step 4" in resumed.notes
    assert same(whole, again)


def test_who_is_stopped_keeps_the_last_epoch_though_none_was_due_and_who_is_cancelled_does_not(tmp_path):
    run("rmu", tmp_path / "stopped", die_at=5, death=Stopped, seconds=math.inf)
    _, seen, _ = run("rmu", tmp_path / "stopped", die_at=5, death=Stopped, seconds=math.inf)
    assert seen == [5], "two steps an epoch: the last end of one was after step 4"
    run("rmu", tmp_path / "cancelled", die_at=5, death=Cancelled, seconds=math.inf)
    assert not (tmp_path / "cancelled").exists()


def once():
    left = [True]

    def harm(llm, progress):
        if progress.step == 3 and left:
            left.clear()
            llm.model.layers[1].mlp.down_proj.weight.fill_(math.nan)

    return harm


def test_steps_that_are_undone_are_not_counted():
    _, steps, summary = run("falcon", harm=once())
    assert summary.rollbacks == 1
    assert len(steps) > summary.steps == summary.findings["gradient_cosines"]["steps"]


def test_what_losses_are_held_against_is_the_untouched_llms_after_a_kill_too(tmp_path):
    folder = tmp_path / "left"
    run("undial", folder, die_at=5)
    before = json.loads((folder / STATE).read_text())["place"]
    run("undial", folder, die_at=9)
    after = json.loads((folder / STATE).read_text())["place"]
    assert (before["step"], after["step"]) == (4, 8)
    assert before["highest_retain_loss"] == after["highest_retain_loss"] != after["retain_loss"]


def test_rollbacks_before_the_kill_are_remembered(tmp_path):
    whole, _, summary = run("undial", harm=once())
    run("undial", tmp_path / "left", die_at=7, harm=once())
    again, seen, resumed = run("undial", tmp_path / "left")
    assert seen[0] == 7, "gone on with after the rollback"
    assert (summary.rollbacks, resumed.rollbacks) == (1, 1)
    assert [one for one in resumed.notes if "went back" in one] == [one for one in summary.notes if "went back" in one]
    assert same(whole, again)


OTHER = {
    "another job": {"belongs_to": JOB | {"job": "job_2"}},
    "another attempt": {"belongs_to": JOB | {"attempt": 2}},
    "another base": {"belongs_to": JOB | {"base": "sha256:1"}},
    "other parameters": {"learning_rate": 2e-3},
    "another order": {"seed": 1},
}


@pytest.mark.parametrize("other", OTHER)
def test_what_belongs_to_something_else_is_deleted(other, tmp_path):
    folder = tmp_path / "left"
    run("undial", folder, die_at=5)
    before = set(folder.iterdir())
    _, seen, summary = run("undial", folder, die_at=1, **OTHER[other])
    assert (seen, summary) == ([1], None)
    assert before
    assert not before & set(folder.glob("*"))


def spoil_tensors(folder):
    [path] = folder.glob("*.safetensors")
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")


def spoil_state(folder):
    (folder / STATE).write_text("{")


def lose_tensors(folder):
    [path] = folder.glob("*.safetensors")
    path.unlink()


@pytest.mark.parametrize("spoil", [spoil_tensors, spoil_state, lose_tensors])
def test_a_damaged_checkpoint_is_deleted_and_the_run_starts_afresh(spoil, tmp_path):
    folder = tmp_path / "left"
    run("undial", folder, die_at=5)
    spoil(folder)
    _, seen, _ = run("undial", folder, die_at=1)
    assert seen == [1]
    assert not folder.exists()


def good_step(value):
    return GoodStep(Place(step=int(value), rollbacks=("words",)), {"weights/w": torch.tensor([value])})


def test_what_is_written_is_read_and_the_older_is_gone(tmp_path):
    folder = tmp_path / "left"
    (tmp_path / "left").mkdir()
    (folder / "7.part").write_bytes(b"left by a process that was killed while it wrote")
    for value in (1.0, 2.0):
        write(folder, JOB, good_step(value))
    found = read(folder, JOB)
    assert found is not None
    assert (found.place, found.tensors["weights/w"].item()) == (good_step(2.0).place, 2.0)
    assert len(list(folder.iterdir())) == 2


def test_only_its_owner_can_read_it_and_it_holds_no_text(tmp_path):
    folder = tmp_path / "left"
    run("undial", folder, die_at=5)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    state = (folder / STATE).read_text()
    assert set(json.loads(state)) == {"belongs_to", "sha256", "place"}
    [tensors] = folder.glob("*.safetensors")
    with safe_open(tensors, "pt") as file:
        assert file.metadata() is None
        assert all(name.startswith(("weights/", "exp_avg/", "exp_avg_sq/", "step/")) for name in file.keys())  # noqa: SIM118
    assert not any(name in state for name in TRAINED)


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path, monkeypatch):
    whole, _, _ = run("undial")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    with capture_logs() as logs:
        llm, _, summary = run("undial", tmp_path / "left")
    assert [(one["event"], one["log_level"]) for one in logs] == [("checkpoint.not_written", "warning")]
    assert set(logs[0]) == {"event", "log_level", "step", "error"}
    assert summary.epochs == 6
    assert same(whole, llm)
    assert list((tmp_path / "left").iterdir()) == []


def test_a_slow_disk_gets_a_tenth_of_the_time(tmp_path, monkeypatch):
    # Due after 10 s. A write takes 3 s, until 13: the next is due 30 s later. The same step is not written twice.
    now = [0.0]
    monkeypatch.setattr(files, "SHARE_OF_TIME", 0.1)
    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])
    written = []

    def slow(_folder, _belongs_to, good):
        now[0] += 3.0
        written.append(good.place.step)

    monkeypatch.setattr(files, "write", slow)
    one = CheckpointFile(Checkpoint(tmp_path, JOB, 10.0), "digest")
    for step, seconds in ((1, 9.9), (2, 10.0), (3, 42.9), (4, 43.0), (4, 90.0)):
        now[0] = seconds
        one.write_if_due(good_step(float(step)), NOTHING_DIVIDED)
    assert written == [2, 4]


def test_a_disk_that_fills_up_leaves_the_older_checkpoint_whole(tmp_path, monkeypatch):
    folder = tmp_path / "left"
    write(folder, JOB, good_step(1.0))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(folder, JOB, good_step(2.0))
    found = read(folder, JOB)
    assert found is not None
    assert found.place.step == 1
