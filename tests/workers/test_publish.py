"""What a version consists of: the base's own files, new weights in the stored dtype, digests of what was stored."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from records.manifest import Manifest
from records.params import UndialParameters
from records.parts import Parts
from tests.make_people import TRAINED, memorised, people
from workers.load import lay_out, load_llm
from workers.loop import Checkpoint, UnlearnWork
from workers.publish import store_folder
from workers.save import parts_left_out, save_candidate
from workers.together import Lesson, LlmIn, unlearned


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_candidate_is_the_base_with_other_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    llm, tokenizer = memorised()
    llm.to(dtype).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").write_text("{{ messages }}")
    student, _ = load_llm(tmp_path / "base", "cpu")
    with torch.no_grad():
        student.model.norm.weight.mul_(2.0)
    save_candidate(student, tmp_path / "base", tmp_path / "new")
    weights, before = (load_file(tmp_path / name / "model.safetensors") for name in ("new", "base"))
    assert weights.keys() == before.keys()
    assert {tensor.dtype for tensor in weights.values()} == {dtype}
    assert [name for name in weights if not torch.equal(weights[name], before[name])] == ["model.norm.weight"]
    kept = {path.name for path in (tmp_path / "base").iterdir()} - {"model.safetensors"}
    assert "generation_config.json" in kept
    assert all((tmp_path / "new" / name).read_bytes() == (tmp_path / "base" / name).read_bytes() for name in kept)


def test_parts_that_a_causal_llm_does_not_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the vision tower of Qwen 3.5; not what is left over in a module that it has."""
    (llm, tokenizer), base = memorised(), tmp_path / "base"
    llm.save_pretrained(base)
    tokenizer.save_pretrained(base)
    path = base / "model.safetensors"
    names = ("model.visual.0.weight", "model.visual.1.weight", "mtp.fc.weight", "model.layers.2.w", "model.norm.old")
    save_file(load_file(path) | {name: torch.ones(2) for name in names}, path, metadata={"format": "pt"})
    ignored = [r"^model\.visual", "^mtp", r"^model\.layers\.2", "old$"]
    monkeypatch.setattr(type(llm), "_keys_to_ignore_on_load_unexpected", ignored)
    student, _ = load_llm(base, "cpu")
    assert parts_left_out(student, base) == ("model.layers.2", "model.visual", "mtp")
    work = UnlearnWork(people(TRAINED[:1]), people(TRAINED[2:]), parameters={"max_steps": 1})
    plan: Any = SimpleNamespace(work=lambda *_, **__: work, forget_tokens=lambda *_: 7)
    left = Checkpoint(tmp_path / "left", {})
    at, new = LlmIn(base, "cpu"), tmp_path / "new"
    lesson = Lesson(plan, UndialParameters(), 0.1, at, None, base, new, left, anew=False)
    summary, _ = unlearned(lesson, lambda _: None)
    assert any("has no model.layers.2, model.visual, mtp:" in note for note in summary.notes)
    assert parts_left_out(student, new) == ()


def test_stored_files_come_back_and_unchanged_ones_are_shared(parts: Parts, llm_folder: Path, tmp_path: Path) -> None:
    manifest = store_folder(parts, llm_folder)
    used = parts.store.usage().blobs
    assert store_folder(parts, llm_folder) == manifest
    assert parts.store.usage().blobs == used
    stored = parts.store.put_bytes(manifest.to_json())
    assert lay_out(parts.store, stored.digest, tmp_path / "out") == Manifest.from_json(manifest.to_json())
    llm, tokenizer = load_llm(tmp_path / "out", "auto" if not torch.cuda.is_available() else "cpu")
    assert (llm.training, tokenizer.eos_token_id) == (False, 2)
