"""The tables. State columns are text, so a new state needs no migration; `records.states` holds the allowed moves.

No row holds personal data in the clear: forget sets and datasets are sealed files, and a subject is kept as a keyed
hash.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from records.base import Row, new_id, utc_now


def _id(prefix: str) -> Any:
    return mapped_column(primary_key=True, default=lambda: new_id(prefix))


def _to(column: str, **more: Any) -> Any:
    return mapped_column(sa.ForeignKey(column), **more)


class TenantRow(Row):
    __tablename__ = "tenants"
    id: Mapped[str] = _id("ten")
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class ApiKeyRow(Row):
    """`digest` is SHA-256 of the whole key: it has full entropy, so a slow hash would buy nothing.

    `hint` is the part of the key that is no secret, to tell keys apart. A rotated key names the one that follows it.
    """

    __tablename__ = "api_keys"
    id: Mapped[str] = _id("key")
    tenant_id: Mapped[str] = _to("tenants.id", index=True)
    name: Mapped[str]
    digest: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    hint: Mapped[str | None]
    replaced_by: Mapped[str | None] = mapped_column(doc="the key that this one was rotated to")


class IdempotencyRow(Row):
    """The stored answer of one creating POST, scoped to who called: an API key, or a token's holder in a tenant."""

    __tablename__ = "idempotency_keys"
    caller_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    status: Mapped[int]
    location: Mapped[str | None]
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)


class ModelRow(Row):
    """A lineage of weights. The lease and its fencing token live here: one model, one writer."""

    __tablename__ = "models"
    id: Mapped[str] = _id("mod")
    tenant_id: Mapped[str] = _to("tenants.id")
    name: Mapped[str]
    source: Mapped[dict[str, Any]]
    defaults: Mapped[dict[str, Any]] = mapped_column(default=dict)
    reference_id: Mapped[str | None] = _to("models.id", doc="the model that was never trained on what this one forgets")
    head: Mapped[int | None] = mapped_column(doc="number of the newest published version")
    last_version: Mapped[int] = mapped_column(default=0)
    last_job: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[float] = mapped_column(default=0.0, doc="database seconds; 0 = free")
    fence: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    __table_args__ = (sa.UniqueConstraint("tenant_id", "name"),)


class DatasetRow(Row):
    """One sealed JSONL file of a model under a role; a new upload replaces the row's file."""

    __tablename__ = "datasets"
    id: Mapped[str] = _id("dat")
    tenant_id: Mapped[str] = _to("tenants.id", index=True)
    model_id: Mapped[str] = _to("models.id")
    role: Mapped[str]
    rows: Mapped[int] = mapped_column(sa.BigInteger)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    plain_digest: Mapped[str] = mapped_column(doc="SHA-256 of the JSONL as sent, so that the sender can compare")
    file_digest: Mapped[str]
    wrapped_key: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    __table_args__ = (
        sa.UniqueConstraint("model_id", "role"),
        sa.CheckConstraint("role IN ('training', 'retain', 'control', 'utility')", name="role"),
    )


class RequestRow(Row):
    """One erasure request. The forget set lies sealed in the store; without `wrapped_key` it is gone for good."""

    __tablename__ = "erasure_requests"
    id: Mapped[str] = _id("req")
    tenant_id: Mapped[str] = _to("tenants.id", index=True)
    model_id: Mapped[str] = _to("models.id", index=True)
    state: Mapped[str]
    outcome: Mapped[str | None]
    reason: Mapped[str | None] = mapped_column(doc="a sentence without personal data")
    external_id: Mapped[str | None]
    regulation: Mapped[str]
    submitted_at: Mapped[datetime]
    due_at: Mapped[datetime]
    method: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    choice: Mapped[dict[str, Any]] = mapped_column(default=dict, doc="who chose method and parameters, and why")
    policy: Mapped[dict[str, Any]]
    policy_digest: Mapped[str]
    policy_name: Mapped[str | None] = mapped_column(doc="the operator's policy that the thresholds were tightened from")
    subject_reference: Mapped[str | None] = mapped_column(index=True, doc="keyed hash of the subject, if it names one")
    subject_references: Mapped[list[str]] = mapped_column(default=list, doc="of all whom it names")
    evidence: Mapped[str] = mapped_column(default="probes", server_default="probes", doc="what completion leaves")
    payload_file: Mapped[str | None]
    payload_rows: Mapped[int] = mapped_column(default=0)
    wrapped_key: Mapped[bytes | None]
    version_number: Mapped[int | None] = mapped_column(doc="the version that forgot, once published")
    callback_url: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)
    __table_args__ = (sa.Index(None, "state", "due_at"),)


class EvidenceRow(Row):
    """What is to be left of a request's forget set, made when it is taken in: a sealed file of its canaries, or hashes.

    `spent_file` is the sealed forget set whose key was destroyed, until the file is deleted. Requests that keep their
    examples have no such row.
    """

    __tablename__ = "evidence"
    request_id: Mapped[str] = _to("erasure_requests.id", primary_key=True)
    tenant_id: Mapped[str] = _to("tenants.id", index=True)
    rows: Mapped[int] = mapped_column(default=0, doc="canaries")
    file: Mapped[str | None]
    wrapped_key: Mapped[bytes | None]
    words: Mapped[int] = mapped_column(default=0, doc="of one hashed n-gram")
    n_hashes: Mapped[int] = mapped_column(default=0)
    hashes: Mapped[bytes] = mapped_column(default=b"")
    spent_file: Mapped[str | None] = mapped_column(index=True)


class JobRow(Row):
    """One GPU execution. `position` orders the jobs of a model; `executions` counts starts, crashes included."""

    __tablename__ = "jobs"
    id: Mapped[str] = _id("job")
    tenant_id: Mapped[str] = _to("tenants.id", index=True)
    model_id: Mapped[str] = _to("models.id")
    position: Mapped[int]
    state: Mapped[str] = mapped_column(index=True)
    stage: Mapped[str | None]
    attempt: Mapped[int] = mapped_column(default=0)
    progress: Mapped[float] = mapped_column(default=0.0)
    executions: Mapped[int] = mapped_column(default=0)
    base_version: Mapped[int | None]
    needs: Mapped[str] = mapped_column(default="cpu", server_default="cpu", doc="see records.capabilities")
    run_by: Mapped[datetime | None] = mapped_column(doc="the earliest goes first among models; see jobs.Standing")
    traceparent: Mapped[str | None] = mapped_column(doc="the span that made the job (W3C); empty when nobody traces")
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    cancel_requested_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None] = mapped_column(index=True)
    finished_at: Mapped[datetime | None] = mapped_column(index=True)
    __table_args__ = (sa.UniqueConstraint("model_id", "position"),)


class JobRequestRow(Row):
    """Which requests a job serves."""

    __tablename__ = "job_requests"
    job_id: Mapped[str] = _to("jobs.id", primary_key=True)
    request_id: Mapped[str] = _to("erasure_requests.id", primary_key=True, index=True)


class AttemptRow(Row):
    """One try of a job: what was run, what was measured, what the gate said."""

    __tablename__ = "attempts"
    job_id: Mapped[str] = _to("jobs.id", primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    method: Mapped[str]
    parameters: Mapped[dict[str, Any]]
    verdict: Mapped[str | None] = mapped_column(doc="empty when the attempt failed before the gate")
    reason: Mapped[str]
    report: Mapped[dict[str, Any] | None]
    finished_at: Mapped[datetime] = mapped_column(default=utc_now)
    __table_args__ = (sa.Index(None, "method", "verdict"),)


class StageRow(Row):
    """How long one stage of one execution of a job took. Never changed, and `finished_at` is when the row is written,
    hours after a stage that an attempt began with: whoever sums them up need not look twice.
    """

    __tablename__ = "stages"
    job_id: Mapped[str] = _to("jobs.id", primary_key=True)
    fence: Mapped[int] = mapped_column(primary_key=True, doc="of the claim: the same attempt may be made again")
    attempt: Mapped[int] = mapped_column(primary_key=True, doc="0 before the first")
    stage: Mapped[str] = mapped_column(primary_key=True)
    seconds: Mapped[float]
    gpu_peak_bytes: Mapped[int | None] = mapped_column(sa.BigInteger, doc="of the GPU that held most; empty on a CPU")
    finished_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)


class SpreadRow(Row):
    """What has settled of a histogram; see records.spreads. The row of a name without label says until when."""

    __tablename__ = "spreads"
    name: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    at_most: Mapped[list[int]] = mapped_column(sa.JSON, default=list)
    count: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    seconds: Mapped[float] = mapped_column(default=0.0)
    until: Mapped[datetime | None]


class CounterRow(Row):
    """See records.counters."""

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(sa.BigInteger, default=0)


class VersionRow(Row):
    """One immutable set of weight files. The two unique constraints are the second wall behind the fencing token.

    `weights_from` is the version whose weights the job changed: the parent, or an older one from which everybody was
    forgotten anew.
    """

    __tablename__ = "versions"
    id: Mapped[str] = _id("ver")
    tenant_id: Mapped[str] = _to("tenants.id", index=True)
    model_id: Mapped[str] = _to("models.id")
    number: Mapped[int]
    parent: Mapped[int | None]
    weights_from: Mapped[int | None]
    state: Mapped[str]
    job_id: Mapped[str | None] = _to("jobs.id", unique=True)
    manifest_digest: Mapped[str]
    attestation_digest: Mapped[str | None]
    signature_digest: Mapped[str | None]
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    __table_args__ = (sa.UniqueConstraint("model_id", "number"), sa.Index(None, "state", "size_bytes"))


class UploadRow(Row):
    """A folder that a client sends, file by file. See records.uploads."""

    __tablename__ = "uploads"
    id: Mapped[str] = _id("upl")
    tenant_id: Mapped[str] = _to("tenants.id", index=True)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class UploadFileRow(Row):
    """A file that was announced. `stored` is its digest once its bytes are in the store: announcing keeps nothing."""

    __tablename__ = "upload_files"
    upload_id: Mapped[str] = _to("uploads.id", primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    stored: Mapped[str | None] = mapped_column(index=True)


class OutboxRow(Row):
    """A message to send after COMMIT. Bodies hold ids only."""

    __tablename__ = "outbox"
    id: Mapped[str] = _id("out")
    topic: Mapped[str]
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    sent_at: Mapped[datetime | None] = mapped_column(index=True)


class WebhookRow(Row):
    """An endpoint of a tenant's. Where `wrapped_secret` is empty, it is derived from the master key, the id and
    `generation`, as it was before.
    """

    __tablename__ = "webhooks"
    id: Mapped[str] = _id("whk")
    tenant_id: Mapped[str] = _to("tenants.id", index=True)
    url: Mapped[str]
    events: Mapped[list[str]]
    generation: Mapped[int] = mapped_column(default=1)
    wrapped_secret: Mapped[bytes | None]
    wrapped_previous: Mapped[bytes | None]
    previous_until: Mapped[datetime | None] = mapped_column(doc="until when the secret before signs too")
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class DeliveryRow(Row):
    """Something to tell an endpoint, or the callback of a request. `next_at` is empty once it is over."""

    __tablename__ = "deliveries"
    id: Mapped[str] = _id("dlv")
    tenant_id: Mapped[str] = _to("tenants.id", index=True)
    webhook_id: Mapped[str | None] = _to("webhooks.id", index=True)
    url: Mapped[str | None] = mapped_column(doc="of a callback")
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime | None] = mapped_column(index=True)
    delivered_at: Mapped[datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class AuditEntryRow(Row):
    """A leaf of the log. `event` is the canonical JSON that `commitment` = SHA-256(salt || event) commits to; the
    other columns repeat parts of it for queries, and verification compares them."""

    __tablename__ = "audit_entries"
    position: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    tenant_id: Mapped[str | None] = mapped_column(index=True)
    tag: Mapped[str]
    model_id: Mapped[str | None] = mapped_column(index=True)
    request_id: Mapped[str | None] = mapped_column(index=True)
    job_id: Mapped[str | None] = mapped_column(index=True)
    event: Mapped[str]
    salt: Mapped[bytes]
    commitment: Mapped[bytes]


class AuditNodeRow(Row):
    """Hash of a full subtree: node `place` of `level` (level 0 = leaves)."""

    __tablename__ = "audit_nodes"
    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes]


class TreeHeadRow(Row):
    """The signed head for a tree of `size` entries, a C2SP signed note."""

    __tablename__ = "tree_heads"
    size: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    root: Mapped[bytes]
    note: Mapped[str]
