"""A run's last good step on disk, so that a killed job goes on where it was instead of at its beginning.

    FOLDER/<sha256>.safetensors    the tensors
    FOLDER/state.json              their digest, the place, and what all of it belongs to

Each file is written beside, synced and renamed, the JSON last: it never names tensors that are not whole. No pickle,
and no text of anybody: weights, numbers and digests.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from workers.good_step import GoodStep, Place, Trained, gathered
from workers.sharding import agreed, rank

log = structlog.get_logger()

STATE = "state.json"
SHARE_OF_TIME = 0.1


@dataclass(frozen=True)
class Checkpoint:
    """Where a run may leave its state: a folder of its own, which need not exist yet.

    What is found there is taken only if it was left with the same `belongs_to` (JSON values), by the same method with
    the same parameters on the same rows. It is written every `seconds`, at the end of an epoch, and when the run is
    Stopped.
    """

    folder: Path
    belongs_to: Mapping[str, str | int]
    seconds: float = 300.0


@dataclass
class CheckpointFile:
    """The checkpoint of one run. Writing takes at most a tenth of the time, and never fails the run."""

    checkpoint: Checkpoint
    work_digest: str
    last_step: int = 0
    due_at: float = field(init=False)
    warned: bool = False

    def __post_init__(self) -> None:
        self.due_at = time.monotonic() + self.checkpoint.seconds

    def find(self) -> GoodStep | None:
        """What an earlier execution left; whatever does not match is deleted."""
        found = read(self.checkpoint.folder, self._belongs_to)
        if found is None:
            self.delete()
        else:
            self.last_step = found.place.step
        return found

    def delete(self) -> None:
        shutil.rmtree(self.checkpoint.folder, ignore_errors=True)

    def write_if_due(self, good: GoodStep, trained: Trained) -> None:
        began = time.monotonic()
        if agreed(began < self.due_at or good.place.step == self.last_step):
            return
        self.write(good, trained)
        took = time.monotonic() - began
        self.due_at = began + took + max(self.checkpoint.seconds, took / SHARE_OF_TIME)

    def write(self, good: GoodStep, trained: Trained) -> None:
        """Now, unless that step is there already. One rank writes what all hold."""
        if agreed(good.place.step == self.last_step):
            return
        good = gathered(good, trained)
        try:
            if rank() == 0:
                write(self.checkpoint.folder, self._belongs_to, good)
            self.last_step = good.place.step
        except (OSError, SafetensorError) as error:
            self._warn(good.place.step, error)

    def _warn(self, step: int, error: Exception) -> None:
        if not self.warned:
            log.warning("checkpoint.not_written", step=step, error=type(error).__name__)
        self.warned = True

    @property
    def _belongs_to(self) -> dict[str, Any]:
        return {**self.checkpoint.belongs_to, "work": self.work_digest}


def write(folder: Path, belongs_to: Mapping[str, Any], good: GoodStep) -> None:
    """Raises OSError or SafetensorError, such as for a full disk; what was there before is then still whole."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = folder / f"{os.getpid()}.part"
    try:
        save_file(dict(good.tensors), part)
        digest = _sha256(part)
        _sync_and_rename(part, folder / f"{digest}.safetensors")
        state = {"belongs_to": dict(belongs_to), "sha256": digest, "place": asdict(good.place)}
        part.write_text(json.dumps(state), encoding="utf-8")
        _sync_and_rename(part, folder / STATE)
    finally:
        part.unlink(missing_ok=True)
    _sync(folder)
    for old in folder.iterdir():
        if old.name not in {STATE, f"{digest}.safetensors"}:
            old.unlink(missing_ok=True)


def read(folder: Path, belongs_to: Mapping[str, Any]) -> GoodStep | None:
    """None if there is nothing, or it belongs to something else, or its tensors are not the ones it names."""
    try:
        state = json.loads((folder / STATE).read_bytes())
        [path] = (one for one in folder.glob("*.safetensors") if one.stem == state["sha256"])
        if state["belongs_to"] != dict(belongs_to) or _sha256(path) != state["sha256"]:
            return None
        place = Place(**state["place"])
        place = replace(place, watched=tuple(place.watched), rollbacks=tuple(place.rollbacks))
        return GoodStep(place, load_file(path))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _sync_and_rename(part: Path, path: Path) -> None:
    _sync(part)
    part.replace(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
