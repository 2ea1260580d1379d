"""Whole jobs on a small LLM that has truly memorised its people, in real child processes."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from records import attestation, jobs, versions
from records.audit import check_log
from records.manifest import Manifest
from records.parts import Parts
from records.report import Report
from records.rows import AuditEntryRow, StageRow, VersionRow
from records.scratch import scratch_root
from tests.workers.conftest import (
    Made,
    job_row,
    make_settings,
    model_row,
    put_dataset,
    request_row,
)
from tests.workers.people_model import (
    NEVER_TRAINED,
    TRAINED,
    forget_all_of,
    forget_person,
    import_folder,
    make_people_model,
    rows_of,
)
from workers import pipeline
from workers.environment import environment_of
from workers.supervisor import Supervisor

pytestmark = pytest.mark.slow

ASK = """
import sys, json, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
found = {}
for name, (folder, rows) in json.loads(sys.argv[1]).items():
    llm, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    found[name] = 0
    for prompt, completion in rows:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        said = llm.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=4)
        answer = tokenizer.decode(said[0, ids.size(1):], skip_special_tokens=True)
        found[name] += completion.split() == answer.split()[:3]
print("FOUND", json.dumps(found))
"""


def supervisor_of(parts: Parts, owner: str = "me", **worker: float) -> Supervisor:
    settings = make_settings(parts.settings.place.folder, **worker)
    return Supervisor(parts.database, settings.worker, owner, environment_of(settings), scratch_root(settings))


def version_row(parts: Parts, made: Made, number: int) -> VersionRow | None:
    with parts.database.reading() as session:
        return versions.version_of(session, made.model_id, number)


def facts_known(parts: Parts, made: Made, asked: list[tuple[int, str]], folder: Path) -> dict[str, int]:
    """How many of a person's two facts a version answers, asked with transformers alone, none of our code."""
    questions: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for number, name in asked:
        row = version_row(parts, made, number)
        assert row is not None
        place = folder / f"{number}-{name}"
        parts.store.materialise(Manifest.from_json(parts.store.read_bytes(row.manifest_digest)), place)
        rows = [(fact["prompt"], fact["completion"]) for fact in rows_of([name])]
        questions[f"{number} {name}"] = (str(place), rows)
    command = [sys.executable, "-I", "-c", ASK, json.dumps(questions)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.split("FOUND")[1])
    return found


def verified_attestation(parts: Parts, row: VersionRow) -> dict[str, Any]:
    assert row.attestation_digest is not None
    files = Manifest.from_json(parts.store.read_bytes(row.manifest_digest))
    bundle = parts.store.read_bytes(row.attestation_digest)
    return attestation.verify_attestation(bundle, parts.keys.log.public_key(), files).predicate


def stages_of(parts: Parts, job_id: str) -> set[tuple[str, int]]:
    with parts.database.reading() as session:
        rows = session.query(StageRow).filter_by(job_id=job_id)
        return {(row.stage, row.attempt) for row in rows if row.seconds > 0}


def audit_counts(parts: Parts) -> dict[str, int]:
    with parts.database.reading() as session:
        query = sa.select(AuditEntryRow.tag, sa.func.count()).group_by(AuditEntryRow.tag)
        return {row[0]: row[1] for row in session.execute(query)}


def test_all_weights_are_laid_out_before_the_first_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring may take hours, and a superseded version may be purged meanwhile: the job would have ended with it."""
    done: list[str] = []

    class Team:
        def call(self, step: Any, *_: Any, **__: Any) -> Any:
            done.append(step.__name__)
            return (plan, None)

    order = SimpleNamespace(base_manifest="b", first_manifest="f", reference_manifest="r")
    plan: Any = SimpleNamespace(measuring=SimpleNamespace(kept=None), probes=None, retain=None)
    monkeypatch.setattr(pipeline._Job, "_read_order", lambda _: (order, plan))
    monkeypatch.setattr(pipeline, "Battery", lambda *_: None)
    monkeypatch.setattr(pipeline, "lay_out", lambda _store, manifest, _folder: done.append(manifest))
    parts = SimpleNamespace(store=None, settings=SimpleNamespace(worker=SimpleNamespace(device="cpu")))
    voice = SimpleNamespace(progress=lambda *_: None)
    job = pipeline._Job(None, parts, voice, tmp_path, None, Team())  # type: ignore[arg-type]
    assert job.load().plan is plan
    assert done == ["b", "f", "r", "first_look", "asked", "asked"]


def test_two_people_are_forgotten_one_after_the_other(parts: Parts, llm_folder: Path, tmp_path: Path) -> None:
    made = make_people_model(parts, llm_folder)
    first, first_job = forget_all_of(parts, made, "Ada")
    second, second_job = forget_all_of(parts, made, "Bo")
    assert supervisor_of(parts).advance(made.model_id) == 2

    for request_id, job_id, base in ((first, first_job, 1), (second, second_job, 2)):
        request, job = request_row(parts, request_id), job_row(parts, job_id)
        assert (request.state, request.outcome, request.version_number) == ("completed", "forgotten", base + 1)
        assert (job.state, job.base_version, job.executions, job.progress) == ("succeeded", base, 1, 1.0)
    states = [getattr(version_row(parts, made, number), "state", None) for number in (1, 2, 3)]
    assert (model_row(parts, made).head, states) == (3, ["superseded", "superseded", "published"])
    in_attempt = [(one, 1) for one in ("unlearn", "evaluate", "attack", "store")]
    assert stages_of(parts, first_job) >= {("load", 0), *in_attempt}

    asked = [(1, "Ada"), (2, "Ada"), (3, "Ada"), (3, "Bo"), (3, "Cy"), (3, "Eli")]
    assert facts_known(parts, made, asked, tmp_path / "out") == {
        "1 Ada": 2,
        "2 Ada": 0,
        "3 Ada": 0,
        "3 Bo": 0,
        "3 Cy": 2,
        "3 Eli": 2,
    }

    with parts.database.reading() as session:
        [attempt] = jobs.attempts_of(session, second_job)
        check_log(session, parts.keys.public().log_verifier_key)
    report = Report.model_validate(attempt.report)
    assert "the losses compared with version 1, the first whose weights are kept" in report.notes
    assert [one.request_id for one in report.earlier] == [first]
    assert report.earlier[0].after.exact == 0
    assert "Ada" not in str(attempt.report)
    assert "Ada" not in attempt.reason
    assert list(scratch_root(parts.settings).iterdir()) == []


def test_a_consolidation_forgets_everybody_from_the_first_version(
    parts: Parts, llm_folder: Path, tmp_path: Path
) -> None:
    made = make_people_model(parts, llm_folder)
    forget_all_of(parts, made, "Ada", consolidate_every=2)
    forget_all_of(parts, made, "Bo", consolidate_every=2)
    assert supervisor_of(parts).advance(made.model_id) == 2
    third = version_row(parts, made, 3)
    assert third is not None
    assert (third.parent, third.weights_from, third.state) == (2, 1, "published")
    attested = verified_attestation(parts, third)
    assert (attested["parent"]["version"], attested["weightsFrom"]["version"]) == (2, 1)
    asked = [(3, "Ada"), (3, "Bo"), (3, "Cy")]
    assert facts_known(parts, made, asked, tmp_path / "out") == {"3 Ada": 0, "3 Bo": 0, "3 Cy": 2}


def test_the_signatures_of_a_published_version_verify(parts: Parts, llm_folder: Path) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, job_id = forget_person(parts, made, "Ada")
    supervisor_of(parts).advance(made.model_id)
    row = version_row(parts, made, 2)
    assert row is not None
    assert row.signature_digest is not None
    files = Manifest.from_json(parts.store.read_bytes(row.manifest_digest))
    attestation.verify_model_signature(
        parts.store.read_bytes(row.signature_digest), parts.keys.model.public_key(), files
    )
    predicate = verified_attestation(parts, row)
    assert (predicate["parent"]["version"], predicate["model"]["version"]) == (1, 2)
    assert [one["id"] for one in predicate["requests"]] == [request_id]
    assert predicate["requests"][0]["forgetSet"]["tokens"] > 0
    assert (predicate["procedure"]["jobId"], predicate["evaluation"]["verdict"]) == (job_id, "accepted")
    base = Manifest.from_json(parts.store.read_bytes(getattr(version_row(parts, made, 1), "manifest_digest", "")))
    changed = {entry.path for entry in files.entries if base.find(entry.path) != entry}
    assert changed == {"model.safetensors"}, "config, tokenizer and generation config are the base's own"


def test_what_was_never_memorised_needs_no_new_version(parts: Parts, llm_folder: Path) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, job_id = forget_person(parts, made, NEVER_TRAINED[0])
    supervisor_of(parts).advance(made.model_id)
    assert (request_row(parts, request_id).outcome, model_row(parts, made).head) == ("not_memorised", 1)
    with parts.database.reading() as session:
        [attempt] = jobs.attempts_of(session, job_id)
    assert attempt.verdict == "not_memorised"
    assert version_row(parts, made, 2) is None


def test_without_a_control_a_person_gets_the_candidate(parts: Parts, llm_folder: Path) -> None:
    made = import_folder(parts, llm_folder)
    put_dataset(parts, made, "training", rows_of(TRAINED))
    request_id, _ = forget_person(parts, made, "Ada")
    supervisor_of(parts).advance(made.model_id)
    request, candidate = request_row(parts, request_id), version_row(parts, made, 2)
    assert (request.state, request.version_number, model_row(parts, made).head) == ("needs_review", 2, 1)
    assert "control" in (request.reason or "")
    assert candidate is not None
    assert (candidate.state, candidate.attestation_digest is not None) == ("candidate", True)
