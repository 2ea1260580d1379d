"""What a worker does to a job, done by the product's own functions without an LLM: so that routes have states."""

import json
from typing import Any

from records import attestation, jobs, versions
from records.attestation import Parent, RequestFacts, Unlearning
from records.base import utc_now
from records.manifest import Entry, Manifest, canonical_json, manifest, sha256_digest
from records.parts import Parts
from records.report import Report
from records.rows import AttemptRow, ModelRow, RequestRow
from records.states import Outcome, Stage
from records.versions import Files
from tests.service.conftest import safetensors

REPORT = Report(method="undial", parameters={}, seeds={}, seconds={}, groups={}).model_dump(mode="json")


def claim(parts: Parts, request_id: str) -> jobs.Claim:
    """Start the job of a request, which must be the next of its model."""
    with parts.database.transaction() as session:
        job = jobs.job_of(session, request_id)
        assert job is not None
        held = jobs.claim(session, job.model_id, "test", 60.0, 3)
    assert held is not None
    assert held.job_id == job.id
    return held


def progress(parts: Parts, held: jobs.Claim, share: float) -> None:
    with parts.database.transaction() as session:
        jobs.set_progress(session, held, Stage.UNLEARN, 1, share)


def add_attempt(parts: Parts, held: jobs.Claim, number: int, verdict: str | None, measured: bool = True) -> None:
    row = AttemptRow(
        job_id=held.job_id,
        number=number,
        method="undial",
        parameters={"epochs": number},
        verdict=verdict,
        reason=f"attempt {number}",
        report=REPORT if measured else None,
        finished_at=utc_now(),
    )
    with parts.database.transaction() as session:
        jobs.add_attempt(session, held, row)


def files(parts: Parts, held: jobs.Claim, request_id: str, verdict: str, weights: bytes = b"new") -> Files:
    """A candidate's files in the store, attested and signed as the worker does."""
    found = _manifest(parts, weights)
    with parts.database.reading() as session:
        model = session.get_one(ModelRow, held.model_id)
        request = session.get_one(RequestRow, request_id)
    facts = Unlearning(
        model=model.name,
        version=held.base_version + 1,
        parent=Parent(held.base_version, "sha256:" + "0" * 64),
        job_id=held.job_id,
        attempt=1,
        requests=(RequestFacts(request_id, "2026-11-20T00:00:00Z", request.payload_file or "", 1, 2),),
        method="undial",
        parameters={"epochs": 1},
        seed=0,
        materials={},
        policy_digest=request.policy_digest,
        report_digest=sha256_digest(canonical_json(REPORT)),
        measured=(),
        verdict=verdict,
        tests_not_run=(),
        published_on="2026-11-20T00:00:00Z",
        builder_version="test",
    )
    attested = attestation.attest(facts, found, parts.keys.log)
    signed = attestation.model_signature(model.name, found, parts.keys.model)
    put = parts.store.put_bytes
    return Files(found.digest, found.size_bytes, put(attested).digest, put(signed).digest)


def publish(parts: Parts, request_id: str, weights: bytes = b"new") -> int:
    """Run the request's job to a published version; its number."""
    held = claim(parts, request_id)
    add_attempt(parts, held, 1, "accepted")
    made = files(parts, held, request_id, "accepted", weights)
    with parts.database.transaction() as session:
        number = versions.next_number(session, held.model_id)
        versions.publish(session, held, number, made)
    return number


def send_to_review(parts: Parts, request_id: str) -> int:
    """Run the request's job to a candidate that waits for a person; its number."""
    held = claim(parts, request_id)
    add_attempt(parts, held, 1, "needs_review")
    made = files(parts, held, request_id, "needs_review")
    with parts.database.transaction() as session:
        number = versions.next_number(session, held.model_id)
        versions.keep_candidate(session, held, number, made, "Too few items for a verdict.")
    return number


def finish_not_memorised(parts: Parts, held: jobs.Claim) -> None:
    with parts.database.transaction() as session:
        jobs.finish(session, held, Outcome.NOT_MEMORISED)


def _manifest(parts: Parts, weights: bytes) -> Manifest:
    def put(path: str, data: bytes) -> Entry:
        blob = parts.store.put_bytes(data)
        return Entry(path, blob.digest, blob.size_bytes)

    config: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 64}
    found = manifest(
        [put("model.safetensors", safetensors({"a": weights})), put("config.json", json.dumps(config).encode())]
    )
    parts.store.put_bytes(found.to_json())
    return found
