"""Look at everything that is kept, and name every byte that is not as it was written.

The signed log is the root of trust: its entries are recomputed, and the rows of versions, requests, jobs and attempts
must say what the log says. What entries of earlier releases do not say is not asked. Blobs are held against their
names, manifests and signatures against the files and keys, and every blob a row names must be there. Nothing is
written.
"""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import audit
from records.attempts import report_digest
from records.attestation import Statement, verify_attestation, verify_model_signature
from records.errors import LetheError
from records.findings import Counts, Finding, differences
from records.keys import KeyRing
from records.manifest import DigestInvalid, Manifest
from records.rows import (
    AttemptRow,
    AuditEntryRow,
    DatasetRow,
    EvidenceRow,
    JobRow,
    ModelRow,
    RequestRow,
    VersionRow,
)
from records.signing import SignatureInvalid
from records.states import JobState, RequestState, VersionState
from records.store import Store

ATTEMPTS_AT_ONCE = 50  # a report may be large
_ROWS = "The row's"
_SERVED = frozenset({VersionState.PUBLISHED, VersionState.SUPERSEDED})


def check_everything(session: Session, store: Store, keys: KeyRing, counts: Counts) -> Iterator[Finding]:
    """Every finding; none means that log, rows, store and signatures agree. `counts` is filled in on the way."""
    yield from check_blobs(store, counts)  # hours; the session's moment begins behind it
    yield from _check_log(session, keys, counts)
    events = _events(session)
    for version in session.scalars(sa.select(VersionRow).order_by(VersionRow.model_id, VersionRow.number)):
        counts.versions += 1
        yield from _check_version(session, version, store, keys, events)
    for what, found in (
        ("states", _check_states(session, events)),
        ("requests", _check_requests(session, events)),
        ("attempts", _check_attempts(session, events)),
    ):
        yield from _readable(what, found)
    yield from _check_sealed_files(session, store)


def check_blobs(store: Store, counts: Counts) -> Iterator[Finding]:
    """Every blob of the store against its name."""
    for digest in store.iter_digests():
        counts.blobs += 1
        yield from _refused(f"blob {digest}", lambda digest=digest: store.verify(digest))


def _check_log(session: Session, keys: KeyRing, counts: Counts) -> Iterator[Finding]:
    try:
        counts.entries = audit.check_log(session, keys.public().log_verifier_key)
    except LetheError as error:
        yield Finding("audit log", error.detail)
    except (ValueError, TypeError, sa.exc.StatementError, sa.exc.DBAPIError) as error:
        yield Finding("audit log", f"A row of the log cannot be read ({type(error).__name__}): it was changed.")


def _events(session: Session) -> list[dict[str, Any]]:
    """The log's events in order; what cannot be read was found by the check of the log already."""
    found = []
    for text in session.scalars(sa.select(AuditEntryRow.event).order_by(AuditEntryRow.position)):
        try:
            event = json.loads(text)
        except (ValueError, TypeError):
            continue
        if isinstance(event, dict):
            found.append(event)
    return found


def _check_version(
    session: Session, version: VersionRow, store: Store, keys: KeyRing, events: list[dict[str, Any]]
) -> Iterator[Finding]:
    where = _spoken(version)
    yield from _check_logged(where, version, events)
    if version.state == VersionState.PURGED:
        return
    try:
        manifest = Manifest.from_json(store.read_bytes(version.manifest_digest))
    except LetheError as error:
        yield Finding(f"{where}, manifest", error.detail)
        return
    for entry in manifest.entries:
        if not store.exists(entry.digest):
            yield Finding(f"{where}, file {entry.path}", f"The store holds no blob {entry.digest}.")
    if manifest.size_bytes != version.size_bytes:
        yield Finding(where, f"The row says {version.size_bytes} bytes and the manifest {manifest.size_bytes}.")
    yield from _check_signatures(session, version, manifest, store, keys)


def _check_signatures(
    session: Session, version: VersionRow, manifest: Manifest, store: Store, keys: KeyRing
) -> Iterator[Finding]:
    where, attested, signed = _spoken(version), version.attestation_digest, version.signature_digest
    if attested is not None:
        key = keys.log.public_key()
        yield from _refused(
            f"{where}, attestation",
            lambda: _check_attestation(session, verify_attestation(store.read_bytes(attested), key, manifest)),
        )
    if signed is None and version.state in _SERVED:
        yield Finding(f"{where}, model.sig", "The row names none, and every version that was published has one.")
    if signed is not None:
        model_key = keys.model.public_key()
        yield from _refused(
            f"{where}, model.sig", lambda: verify_model_signature(store.read_bytes(signed), model_key, manifest)
        )


def _spoken(version: VersionRow) -> str:
    return f"version {version.number} of {version.model_id}"


def _check_attestation(session: Session, statement: Statement) -> None:
    """Raises SignatureInvalid unless the attempt's row still has the report that was attested."""
    procedure, evaluation = statement.predicate["procedure"], statement.predicate["evaluation"]
    attempt = session.get(AttemptRow, (procedure["jobId"], procedure["attempt"]))
    if attempt is None or report_digest(attempt) != evaluation["reportDigest"]:
        raise SignatureInvalid("The report in its attempt's row is not the one that was attested.")


def _check_logged(where: str, version: VersionRow, events: list[dict[str, Any]]) -> Iterator[Finding]:
    """The row's digests are the ones that the log took down when the version was made and published."""
    logged: dict[str, Any] = {}
    for event in events:
        if event.get("model_id") == version.model_id and event.get("version") == version.number:
            logged |= _details(event)
    present = {"manifest": version.manifest_digest, "parent": version.parent, "attestation": version.attestation_digest}
    yield from differences(where, _ROWS, present, logged)
    if "manifest" not in logged:
        yield Finding(where, "The audit log knows nothing of this version.")


def _check_states(session: Session, events: list[dict[str, Any]]) -> Iterator[Finding]:
    last = _last_states(events)
    requests = [("request", row.id, row.id, row.state) for row in session.scalars(sa.select(RequestRow))]
    jobs = [("job", row.id, row.id, row.state) for row in session.scalars(sa.select(JobRow))]
    versions: list[tuple[str, Any, str, str]] = [
        ("version", (row.model_id, row.number), row.id, row.state) for row in session.scalars(sa.select(VersionRow))
    ]
    rows = (*requests, *jobs, *versions)
    for kind, about, row_id, state in rows:
        if last.get((kind, about)) != state:
            yield Finding(f"{kind} {row_id}", f"The row says {state!r} and the audit log says otherwise.")
    for kind, about in last.keys() - {(kind, about) for kind, about, _, _ in rows}:
        spoken = f"{about[1]} of {about[0]}" if kind == "version" else about
        yield Finding(f"{kind} {spoken}", "The audit log knows it and there is no row of it.")
    yield from _check_heads(session, last)


def _check_heads(session: Session, last: dict[tuple[str, Any], str]) -> Iterator[Finding]:
    for model in session.scalars(sa.select(ModelRow)):
        published = [
            about[1]
            for (kind, about), state in last.items()
            if kind == "version" and about[0] == model.id and state == VersionState.PUBLISHED
        ]
        if published and model.head not in published:
            yield Finding(
                f"model {model.id}", "The row's head is not the version that the audit log says is published."
            )


def _last_states(events: list[dict[str, Any]]) -> dict[tuple[str, Any], str]:
    states: dict[str, set[str]] = {
        "request": set(map(str, RequestState)),
        "job": set(map(str, JobState)),
        "version": set(map(str, VersionState)),
    }
    last: dict[tuple[str, Any], str] = {}
    for event in events:
        kind, _, state = str(event.get("tag")).partition(".")
        if state in states.get(kind, ()):
            about = (event.get("model_id"), event.get("version")) if kind == "version" else event.get(f"{kind}_id")
            last[kind, about] = state
    return last


def _check_requests(session: Session, events: list[dict[str, Any]]) -> Iterator[Finding]:
    """What was asked, until when, and how it ended."""
    told: dict[Any, dict[str, Any]] = {}
    for event in events:
        if str(event.get("tag")).startswith("request."):
            told.setdefault(event.get("request_id"), {"outcome": None}).update(_details(event))
    for row in session.scalars(sa.select(RequestRow)):
        present = {
            "method": row.method,
            "policy": row.policy_digest,
            "regulation": row.regulation,
            "submitted_at": audit.time_text(row.submitted_at),
            "due_at": audit.time_text(row.due_at),
            "outcome": row.outcome,
        }
        yield from differences(f"request {row.id}", _ROWS, present, told.get(row.id, {}))


def _check_attempts(session: Session, events: list[dict[str, Any]]) -> Iterator[Finding]:
    """What was measured and what the gate said; a repeat after a crash has replaced the row and told it anew."""
    finished = (event for event in events if event.get("tag") == "attempt.finished")
    told = {(event.get("job_id"), _details(event).get("attempt")): _details(event) for event in finished}
    rows = sa.select(AttemptRow).order_by(AttemptRow.job_id, AttemptRow.number)
    for row in session.scalars(rows.execution_options(yield_per=ATTEMPTS_AT_ONCE)):
        where = f"attempt {row.number} of job {row.job_id}"
        details = told.pop((row.job_id, row.number), None)
        if details is None:
            yield Finding(where, "The audit log knows nothing of this attempt.")
            continue
        present = {"method": row.method, "verdict": row.verdict, "report": report_digest(row)}
        yield from differences(where, _ROWS, present, details)
    for job_id, number in told:
        yield Finding(f"attempt {number} of job {job_id}", "The audit log knows it and there is no row of it.")


def _details(event: dict[str, Any]) -> dict[str, Any]:
    found = event.get("details")
    return found if isinstance(found, dict) else {}


def _check_sealed_files(session: Session, store: Store) -> Iterator[Finding]:
    for dataset in session.scalars(sa.select(DatasetRow)):
        if not _holds(store, dataset.file_digest):
            yield Finding(f"dataset {dataset.id}", f"The store holds no blob {dataset.file_digest}.")
    for request in session.scalars(sa.select(RequestRow).where(RequestRow.payload_file.is_not(None))):
        if not _holds(store, request.payload_file or ""):
            yield Finding(f"request {request.id}", "The store does not hold its sealed forget set.")
    for kept in session.scalars(sa.select(EvidenceRow).where(EvidenceRow.file.is_not(None))):
        if not _holds(store, kept.file or ""):
            yield Finding(f"request {kept.request_id}", "The store does not hold its sealed canaries.")


def _holds(store: Store, digest: str) -> bool:
    try:
        return store.exists(digest)
    except DigestInvalid:  # a changed letter need not be a hexadecimal one
        return False


def _readable(what: str, found: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from found
    except (ValueError, TypeError) as error:  # SQLite keeps whatever is written into a column
        yield Finding(what, f"A row cannot be read ({type(error).__name__}): it was changed.")


def _refused(where: str, check: Any) -> Iterator[Finding]:
    try:
        check()
    except LetheError as error:
        yield Finding(where, error.detail)
    except (ValueError, KeyError, TypeError, OSError) as error:
        yield Finding(where, f"It cannot be read ({type(error).__name__}): it was changed.")
