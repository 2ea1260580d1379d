"""What several ranks make of a job is what one makes of it; and nothing is left of them when one of them ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from records.jobs import Claim
from records.report import GroupName
from records.settings import WorkerSettings
from tests.make_architectures import ARCHITECTURES, MIXTURES
from tests.workers.dying_runner import other_ranks
from tests.workers.on_ranks import Found, Run, attacked, core_limits, counted, diverging, forgotten, stepped
from tests.workers.test_supervisor import children_of, wait_for
from workers import ranks
from workers.errors import Cancelled, Diverged, Stopped, Unsuitable
from workers.ranks import RANK_LOST, Team

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

HELD = Claim(job_id="job_1", model_id="mod_1", tenant_id="ten_1", fence=1, base_version=1)
ROUND_OFF = 1e-5  # of fp32 over some dozens of steps; weights of the small LLM are about 0.1


def quiet(_: Any) -> None:
    pass


def team_of(size: int, folder: Path, threads: int = 1) -> Any:
    settings = WorkerSettings(device="cpu").model_copy(update={"worker_threads": threads})
    return ranks.team_of(size, folder, settings, HELD)


@dataclass
class Alone:
    """What one process makes of everything, before it becomes rank 0 of two."""

    forgotten: dict[str, Found]
    attacked: dict[str, Any]
    stepped: dict[str, tuple[list[torch.Tensor], torch.Tensor]]


@pytest.fixture(scope="module")
def alone() -> Alone:
    runs = RUNS | {"half": HALF, "one step": ONE_STEP}
    return Alone(
        {name: forgotten(run, quiet) for name, run in runs.items()},
        {name: attacked(*how, quiet) for name, how in ATTACKS.items()},
        {name: stepped(_of(name), quiet) for name in ARCHITECTURES},
    )


@pytest.fixture(scope="module")
def two(alone: Alone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with team_of(2, tmp_path_factory.mktemp("ranks")) as team:
        yield team


def farthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name].float() - other[name].float()).abs().max().item() for name in one)


RUNS = {
    "default": Run(),
    "exchange": Run(parameters={"target": "exchange"}),
    "limited and projected": Run(parameters={"update_limit": 0.01, "conflict_scope": "tensor"}),
    "projected as one": Run(parameters={"conflict_scope": "global"}),
    "adapters": Run(parameters={"tuning": "lora", "lora_rank": 4}),
    "named matrices": Run(parameters={"tuning": "named", "trained_layers": [1]}),
    "fewer rows than ranks": Run(parameters={"micro_batch_size": 1}),
    "layers computed again": Run(parameters={"gradient_checkpointing": True}),
    "no retain rows": Run(parameters={"retain_kind": "none"}),
    "npo": Run("npo"),
    "idk_dpo": Run("idk_dpo"),
    "random_labels": Run("random_labels"),
    "ascent_kl_general": Run("ascent_kl_general", {"max_steps": 4}),
}


HALF = Run(parameters={"max_steps": 5}, dtype=torch.bfloat16)
ONE_STEP = Run(parameters={"max_steps": 1})
ATTACKS = {
    "full": ("full", torch.float32),
    "adapters": ("lora", torch.float32),
    "half": ("full", torch.bfloat16),
}


def _of(architecture: str) -> Run:
    return Run(parameters={"max_steps": 3}, architecture=architecture)


@pytest.mark.parametrize("kind", RUNS)
def test_two_ranks_train_as_one_does(alone: Alone, two: Team, kind: str) -> None:
    one, weights = alone.forgotten[kind]
    steps: list[int] = []
    both, divided = two.call(forgotten, RUNS[kind], say=steps.append)
    assert (both.steps, both.known_items, both.stopped) == (one.steps, one.known_items, one.stopped)
    assert steps == list(range(1, one.steps + 1))
    assert both.forget_loss == pytest.approx(one.forget_loss, rel=1e-4)
    assert (both.retain_loss or 0.0) == pytest.approx(one.retain_loss or 0.0, rel=1e-3)
    assert farthest(weights, divided) < ROUND_OFF
    assert farthest(weights, alone.forgotten["one step"][1]) > 100 * ROUND_OFF, "the steps moved the weights"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_can_be_divided(alone: Alone, two: Team, architecture: str) -> None:
    """Gradients are compared as well as weights: where the first is zero but for round-off, as of the biases of keys,
    AdamW makes a step of the round-off, and what follows from it differs from CPU to CPU. An expert's sums depend on
    which rows lie beside each other, so that of what is distilled the whole first gradient is round-off.
    """
    gradients, weights = alone.stepped[architecture]
    others, divided = two.call(stepped, _of(architecture), say=quiet)
    mixture = architecture in MIXTURES
    nears = (1e-6, 3e-2, 3e-2) if mixture else (1e-6, 2e-2, 2e-2)
    for one, other, near in zip(gradients, others, nears, strict=True):
        assert (one.sort().values - other.sort().values).abs().max() < near * one.abs().max()
    if mixture:
        return
    assert (weights - divided).abs().mean() < ROUND_OFF / 10
    assert (weights - divided).abs().max() < 3e-4, "a third of a step"


def test_half_precision_is_trained_in_full_and_rounded_once(alone: Alone, two: Team) -> None:
    _, divided = two.call(forgotten, HALF, say=quiet)
    weights = alone.forgotten["half"][1]
    assert {one.dtype for one in divided.values()} == {torch.bfloat16}
    apart = [(weights[name] != one).float().mean().item() for name, one in divided.items()]
    assert max(apart) < 0.01, "here and there a last bit of bfloat16"


def test_what_one_rank_saves_is_the_whole_llm(two: Team, tmp_path: Path) -> None:
    _, weights = two.call(forgotten, Run(parameters={"max_steps": 2}, save_to=tmp_path), say=quiet)
    saved = load_file(tmp_path / "model.safetensors")
    assert set(weights) - set(saved) <= {"lm_head.weight"}, "tied"
    assert farthest({name: weights[name] for name in saved}, saved) == 0.0


def test_a_stopped_run_goes_on_from_where_its_ranks_were(two: Team, tmp_path: Path) -> None:
    steps: list[int] = []
    summary, weights = two.call(forgotten, Run(), say=steps.append)

    def stop(step: int) -> None:
        if step == steps[-1] - 1:
            raise Stopped("the worker is told to end")

    left, again = Run(left=tmp_path / "left"), list[int]()
    with pytest.raises(Stopped):
        two.call(forgotten, left, say=stop)
    resumed, divided = two.call(forgotten, left, say=again.append)
    assert again[0] > 1
    assert resumed.steps == summary.steps
    assert farthest(weights, divided) == 0.0


@pytest.mark.parametrize("kind", ATTACKS)
def test_attacks_find_the_same_and_leave_the_llm_as_it_was(alone: Alone, two: Team, kind: str) -> None:
    found, before = alone.attacked[kind]
    together, after = two.call(attacked, *ATTACKS[kind], say=quiet)
    assert [one.name for one in together] == [one.name for one in found]
    assert farthest(before, after) == 0.0
    near = 0.2 if kind == "half" else 1e-3
    for one, other in zip(found, together, strict=True):
        pairs = zip(one.groups[GroupName.FORGET].items, other.groups[GroupName.FORGET].items, strict=True)
        assert all(a.after.nll == pytest.approx(b.after.nll, abs=near) for a, b in pairs), one.name


@pytest.mark.parametrize("method", ["rmu", "falcon"])
def test_a_method_that_cannot_share_says_so_and_the_next_call_is_answered(two: Team, method: str) -> None:
    with pytest.raises(Unsuitable, match="LETHE_WORKER_PROCESSES=1"):
        two.call(forgotten, Run(method, {"layer": 1}), say=quiet)
    assert two.call(counted, say=quiet) == (0, 2)


@pytest.mark.parametrize("raised", [Cancelled, Stopped, Diverged])
def test_after_an_error_there_are_new_ranks(two: Team, raised: type[Exception]) -> None:
    def end(_: float) -> None:
        raise raised("on purpose")

    two.call(counted, say=quiet)
    before = children_of(os.getpid())
    with pytest.raises(raised):
        two.call(diverging if raised is Diverged else counted, say=quiet if raised is Diverged else end)
    assert two.others == []
    assert two.call(counted, say=quiet) == (0, 2)
    assert not set(two_pids(two)) & set(before)


def two_pids(team: Team) -> list[int]:
    return [other.process.pid for other in team.others]


LEADER = """
import json, os, sys
from pathlib import Path
from records import logs
from tests.workers import on_ranks
from tests.workers.test_ranks import quiet, team_of
if __name__ == "__main__":
    logs.to_stderr()
    with team_of(3, Path(sys.argv[2])) as team:
        print(json.dumps(team.call(on_ranks.counted, say=quiet)), flush=True)
        team.call(getattr(on_ranks, sys.argv[1]), say=quiet)
    print("ended", flush=True)
"""


def led(text: str, how: str, folder: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """A leader of its own process, so that its death is not this test's."""
    script = folder / "leader.py"
    script.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    leader = [sys.executable, script, how, folder]
    return subprocess.run(leader, capture_output=True, text=True, timeout=seconds, env=environment, check=False)


def test_a_rank_that_crashes_leaves_no_core_file(two: Team) -> None:
    """Rank 0 is this test, which may: the runner is asked in test_runner.py."""
    assert two.call(core_limits, say=quiet)[1] == (0, 0)


@pytest.mark.parametrize("how", ["failing_alone", "dying_alone"])
def test_a_lost_rank_ends_the_runner_as_if_it_had_been_killed(how: str, tmp_path: Path) -> None:
    done = led(LEADER, how, tmp_path, 120)
    assert json.loads(done.stdout) == [0, 3]
    assert done.returncode == RANK_LOST, done.stderr[-2000:]
    assert "rank.lost" in done.stderr


def test_a_rank_that_dies_before_it_has_joined_is_not_waited_for(tmp_path: Path) -> None:
    """It cannot use so many threads; rank 0 is not asked to."""
    text = LEADER.replace("team_of(3, Path(sys.argv[2]))", "team_of(2, Path(sys.argv[2]), threads=-1)")
    done = led(text, "counted", tmp_path, 240)
    assert (done.returncode, done.stdout) == (RANK_LOST, ""), done.stderr[-2000:]


def test_ranks_die_with_the_first(tmp_path: Path) -> None:
    script = tmp_path / "leader.py"
    script.write_text(LEADER.replace("team.call(getattr(on_ranks, sys.argv[1]), say=quiet)", "os.kill(os.getpid(), 9)"))
    with subprocess.Popen(
        [sys.executable, script, "", tmp_path],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as leader:
        wait_for(lambda: len(other_ranks(leader.pid)) == 2 or leader.poll() is not None, "ranks", 60.0)
        others = other_ranks(leader.pid)
        assert leader.wait(60) == -signal.SIGKILL
    assert len(others) == 2
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in others), "the ranks' death", 5.0)
