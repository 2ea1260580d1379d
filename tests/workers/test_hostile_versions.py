"""A version that should never have come in: its job fails with a reason, and the worker takes the next."""

import json
import shutil
from pathlib import Path

import pytest

from records.checkpoints import CheckpointRefused, check_folder
from records.parts import Parts
from records.scratch import scratch_root
from records.versions import Files
from tests.make_architectures import ARCHITECTURES, make_architecture
from tests.make_llm import make_tokenizer
from tests.workers.conftest import job_row, make_model, make_request, make_settings, model_row, request_row
from workers.environment import environment_of
from workers.load import load_llm
from workers.publish import store_folder
from workers.supervisor import Supervisor


def absurd(llm_folder: Path, to: Path) -> Path:
    """The LLM with a config under which a library would build modules until the memory is full."""
    shutil.copytree(llm_folder, to)
    config = json.loads((to / "config.json").read_text())
    config.pop("layer_types", None)
    (to / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**9}))
    return to


def test_nothing_is_loaded_from_a_folder_that_would_not_be_taken_in(llm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match="more layers"):
        load_llm(absurd(llm_folder, tmp_path / "bad"), "cpu")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_the_library_saves_is_taken_in(name: str, tmp_path: Path) -> None:
    make_architecture(name).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    check_folder(tmp_path)


@pytest.mark.slow
def test_the_worker_outlives_a_hostile_version_and_does_the_next_job(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    manifest = store_folder(parts, absurd(llm_folder, tmp_path / "bad"))
    stored = parts.store.put_bytes(manifest.to_json())
    made = make_model(parts, Files(stored.digest, manifest.size_bytes))
    (first, job), (second, next_job) = make_request(parts, made), make_request(parts, made)
    settings = make_settings(parts.settings.place.folder)
    worker = Supervisor(parts.database, settings.worker, "me", environment_of(settings), scratch_root(settings))
    assert worker.advance(made.model_id) == 2
    for one, request in ((job, first), (next_job, second)):
        found = job_row(parts, one)
        assert (found.state, found.error_code, found.executions) == ("failed", "checkpoint_refused", 1)
        assert "more layers" in (found.error or "")
        assert request_row(parts, request).state == "failed"
    assert (model_row(parts, made).head, model_row(parts, made).lease_owner) == (1, None)
