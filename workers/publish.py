"""A candidate's files as a version: stored, signed, then made visible in one transaction. No tensor library."""

import importlib.metadata
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from records import attestation
from records.attempts import digest_of_report
from records.attestation import Measured, Parent, RequestFacts, Unlearning
from records.base import utc_now
from records.manifest import Entry, Manifest, manifest
from records.orders import Moment, Order, moment
from records.params import TrainingParameters
from records.parts import Parts
from records.report import GroupName, MetricName, Report, Verdict
from records.versions import Files

_ATTACKS = {"precision": "quantisation", "prompt": "prompt-attacks", "relearning": "relearning-attack"}
_ATTESTED = (
    (GroupName.FORGET, MetricName.TOKEN_PROBABILITY),
    (GroupName.FORGET, MetricName.EXTRACTION_STRENGTH),
    (GroupName.FORGET, MetricName.GREEDY_EXTRACTION),
    (GroupName.FORGET_PARAPHRASES, MetricName.GREEDY_EXTRACTION),
    (GroupName.CONTROL, MetricName.TOKEN_PROBABILITY),
    (GroupName.RETAIN, MetricName.EXACT),
    (GroupName.UTILITY, MetricName.EXACT),
)


@dataclass(frozen=True)
class Candidate:
    """One finished attempt: its saved files and everything the attestation says about it. `anew`: the weights were made
    from the first version's.
    """

    folder: Path
    attempt: int
    parameters: TrainingParameters
    report: Report
    verdict: Verdict
    forget_tokens: int
    anew: bool = False


def store_candidate(parts: Parts, order: Order, base: Manifest, candidate: Candidate) -> tuple[int, Files]:
    """(version number, files): every file, the manifest and both signatures are in the store afterwards."""
    with parts.database.reading() as session:
        now = moment(session, order.held, utc_now())
    files = store_folder(parts, candidate.folder)
    facts = _facts(order, base, candidate, now)
    attested = attestation.attest(facts, files, parts.keys.log)
    signed = attestation.model_signature(order.model_name, files, parts.keys.model)
    return now.number, Files(
        manifest_digest=parts.store.put_bytes(files.to_json()).digest,
        size_bytes=files.size_bytes,
        attestation_digest=parts.store.put_bytes(attested).digest,
        signature_digest=parts.store.put_bytes(signed).digest,
        weights_from=order.first_number if candidate.anew else None,
    )


def store_folder(parts: Parts, folder: Path) -> Manifest:
    """Put every file under the folder into the store. The digests are of the bytes that were stored."""
    entries = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            blob = parts.store.put_file(path)
            entries.append(Entry(path.relative_to(folder).as_posix(), blob.digest, blob.size_bytes))
    return manifest(entries)


def _facts(order: Order, base: Manifest, candidate: Candidate, now: Moment) -> Unlearning:
    return Unlearning(
        model=order.model_name,
        version=now.number,
        parent=Parent(order.held.base_version, base.digest),
        weights_from=Parent(order.first_number, order.first_manifest) if candidate.anew else None,
        job_id=order.held.job_id,
        attempt=candidate.attempt,
        requests=tuple(_requests(order, candidate.forget_tokens)),
        method=order.lead.method,
        parameters=_parameters(candidate.parameters),
        seed=candidate.parameters.seed,
        # The sealed file's digest: the plain one could be guessed where a dataset is small.
        materials={role: row.file_digest for role, row in order.datasets.items()},
        policy_digest=order.lead.policy_digest,
        report_digest=digest_of_report(candidate.report.model_dump(mode="json")),
        measured=tuple(_measured(candidate.report, candidate.verdict)),
        verdict=str(candidate.verdict.kind),
        tests_not_run=_not_run(candidate.report),
        published_on=_rfc3339(now.at),
        builder_version=importlib.metadata.version("lethe"),
        checkpoint=now.checkpoint,
    )


def _not_run(report: Report) -> tuple[str, ...]:
    """Kinds of attacks of which none was measured, and single ones of the other kinds that could not be."""
    run = {one.kind for one in report.attacks if one.groups}
    kinds = (words for kind, words in _ATTACKS.items() if kind not in run)
    single = (f"{_ATTACKS[one.kind]}: {one.name}" for one in report.attacks if one.kind in run and not one.groups)
    return (*kinds, *single)


def _requests(order: Order, forget_tokens: int) -> Iterator[RequestFacts]:
    """Tokens are counted for the job, and divided among its requests by their rows."""
    rows = max(1, sum(request.payload_rows for request in order.requests))
    for request in order.requests:
        yield RequestFacts(
            request_id=request.id,
            received_on=_rfc3339(request.created_at),
            commitment=request.payload_file or "shredded",
            examples=request.payload_rows,
            tokens=round(forget_tokens * request.payload_rows / rows),
            regulation=request.regulation,
        )


def _measured(report: Report, verdict: Verdict) -> Iterator[Measured]:
    for group, metric in _ATTESTED:
        if group in report.groups and metric in report.groups[group].metrics:
            numbers = report.groups[group].metrics[metric]
            yield Measured(f"{group}.{metric}", numbers.before.value, numbers.after.value)
    for check in verdict.checks:
        if check.value is not None:
            name = "gate." + re.sub(r"[^a-z0-9]+", "-", check.name.lower()).strip("-")
            yield Measured(name, None, check.value, check.threshold, check.outcome == "pass")


def _parameters(parameters: TrainingParameters) -> dict[str, Any]:
    return {
        name: "+".join(map(str, value)) or None if isinstance(value, list | tuple) else value
        for name, value in parameters.model_dump().items()
    }


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
