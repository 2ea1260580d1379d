"""Whole jobs on a small LLM that has truly memorised its people, in real child processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from records import attestation, jobs, versions
from records.audit import check_log
from records.manifest import Manifest
from records.parts import Parts
from records.report import Report
from records.rows import AuditEntryRow, VersionRow
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
    forget_person,
    import_folder,
    make_people_model,
    rows_of,
)
from workers.environment import environment_of
from workers.scratch import scratch_root
from workers.supervisor import Supervisor

pytestmark = pytest.mark.slow

ASK = """
import sys, json, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
folder, rows = sys.argv[1], json.loads(sys.argv[2])
llm, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
hits = 0
for prompt, completion in rows:
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    said = llm.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=4)
    hits += completion.split() == tokenizer.decode(said[0, ids.size(1):], skip_special_tokens=True).split()[:3]
print("HITS", hits)
"""


def supervisor_of(parts: Parts, owner: str = "me", **worker: float) -> Supervisor:
    settings = make_settings(parts.settings.place.folder, **worker)
    return Supervisor(parts.database, settings.worker, owner, environment_of(settings), scratch_root(settings))


def version_row(parts: Parts, made: Made, number: int) -> VersionRow | None:
    with parts.database.reading() as session:
        return versions.version_of(session, made.model_id, number)


def facts_known(parts: Parts, made: Made, number: int, name: str, folder: Path) -> int:
    """How many of the two facts a version answers, asked with transformers alone, none of our code."""
    row = version_row(parts, made, number)
    assert row is not None
    parts.store.materialise(Manifest.from_json(parts.store.read_bytes(row.manifest_digest)), folder)
    asked = json.dumps([(fact["prompt"], fact["completion"]) for fact in rows_of([name])])
    done = subprocess.run(
        [sys.executable, "-I", "-c", ASK, str(folder), asked], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split("HITS")[1])


def audit_counts(parts: Parts) -> dict[str, int]:
    with parts.database.reading() as session:
        query = sa.select(AuditEntryRow.tag, sa.func.count()).group_by(AuditEntryRow.tag)
        return {row[0]: row[1] for row in session.execute(query)}


def test_two_people_are_forgotten_one_after_the_other(parts: Parts, llm_folder: Path, tmp_path: Path) -> None:
    made = make_people_model(parts, llm_folder)
    first, first_job = forget_person(parts, made, "Ada")
    second, second_job = forget_person(parts, made, "Bo")
    assert supervisor_of(parts).advance(made.model_id) == 2

    for request_id, job_id, base in ((first, first_job, 1), (second, second_job, 2)):
        request, job = request_row(parts, request_id), job_row(parts, job_id)
        assert (request.state, request.outcome, request.version_number) == ("completed", "forgotten", base + 1)
        assert (job.state, job.base_version, job.executions, job.progress) == ("succeeded", base, 1, 1.0)
    states = [getattr(version_row(parts, made, number), "state", None) for number in (1, 2, 3)]
    assert (model_row(parts, made).head, states) == (3, ["superseded", "superseded", "published"])

    assert facts_known(parts, made, 1, "Ada", tmp_path / "v1") == 2
    assert facts_known(parts, made, 2, "Ada", tmp_path / "v2") == 0
    assert [facts_known(parts, made, 3, name, tmp_path / name) for name in ("Ada", "Bo", "Cy", "Eli")] == [0, 0, 2, 2]

    with parts.database.reading() as session:
        [attempt] = jobs.attempts_of(session, second_job)
        check_log(session, parts.keys.public().log_verifier_key)
    report = Report.model_validate(attempt.report)
    assert [one.request_id for one in report.earlier] == [first]
    assert report.earlier[0].after.exact == 0
    assert "Ada" not in str(attempt.report)
    assert "Ada" not in attempt.reason
    assert list(scratch_root(parts.settings).iterdir()) == []


def test_the_signatures_of_a_published_version_verify(parts: Parts, llm_folder: Path) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, job_id = forget_person(parts, made, "Ada")
    supervisor_of(parts).advance(made.model_id)
    row = version_row(parts, made, 2)
    assert row is not None
    assert row.attestation_digest is not None
    assert row.signature_digest is not None
    files = Manifest.from_json(parts.store.read_bytes(row.manifest_digest))
    statement = attestation.verify_attestation(
        parts.store.read_bytes(row.attestation_digest), parts.keys.log.public_key(), files
    )
    attestation.verify_model_signature(
        parts.store.read_bytes(row.signature_digest), parts.keys.model.public_key(), files
    )
    predicate = statement.predicate
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


def test_a_job_that_never_passes_the_gate_is_rejected_after_its_declared_attempts(
    parts: Parts, llm_folder: Path
) -> None:
    made = make_people_model(parts, llm_folder)
    request_id, job_id = forget_person(parts, made, "Ada", learning_rate=1e-8, epochs=1)
    supervisor_of(parts).advance(made.model_id)
    with parts.database.reading() as session:
        attempts = jobs.attempts_of(session, job_id)
    assert [one.verdict for one in attempts] == ["rejected"] * 3
    assert [one.parameters["epochs"] for one in attempts] == [1, 2, 2]
    assert (job_row(parts, job_id).state, request_row(parts, request_id).state) == ("rejected", "failed")
    assert "None of 3 attempts" in (request_row(parts, request_id).reason or "")
    assert model_row(parts, made).head == 1
    assert audit_counts(parts)["attempt.finished"] == 3
