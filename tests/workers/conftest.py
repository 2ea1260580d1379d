"""What worker tests stand on: a real folder with its database, store and keys; rows made as the service makes them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from records import jobs, tenants, versions
from records.base import new_id, utc_now
from records.orders import Order, read_order
from records.parts import Parts, Settings, open_parts
from records.policy import Policy
from records.rows import DatasetRow, JobRow, ModelRow, RequestRow, TenantRow
from records.sealing import Owner
from records.settings import Place, WorkerSettings
from records.vault import DATASET, FORGET
from records.versions import Files
from workers.plan import Plan, make_plan

QUICK = {"lease_seconds": 2.0, "renew_seconds": 0.1, "sweep_seconds": 0.2, "grace_seconds": 5.0, "worker_threads": 1}


def make_settings(folder: Path, **worker: Any) -> Settings:
    return Settings(place=Place(data_dir=folder), worker=WorkerSettings(**{**QUICK, **worker}))


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    opened = open_parts(make_settings(tmp_path / "data"), migrates=True)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Made:
    """Ids of rows made for a test."""

    tenant_id: str
    model_id: str


def make_model(parts: Parts, files: Files | None = None) -> Made:
    """A tenant and a model whose version 1 is `files` (by default, files that nobody will open)."""
    files = files or Files("sha256:" + "0" * 64, 0)
    with parts.database.transaction() as session:
        tenant = tenants.create_tenant(session, new_id("tenant"))
        model = ModelRow(tenant_id=tenant.id, name="people/small", source={}, defaults={})
        session.add(model)
        session.flush()
        versions.first_version(session, model, files, "operator")
        return Made(tenant.id, model.id)


def make_request(
    parts: Parts,
    made: Made,
    forget: list[dict[str, Any]] | None = None,
    parameters: dict[str, Any] | None = None,
    policy: dict[str, Any] | None = None,
    subject: str | None = None,
) -> tuple[str, str]:
    """A queued request with its job: (request id, job id)."""
    thresholds = Policy.model_validate(policy or {})
    request_id = new_id("req")
    rows = forget or [{"prompt": "a", "completion": " b"}]
    sealed = parts.vault.seal(Owner(made.tenant_id, request_id), FORGET, jsonl(rows))
    reference = parts.vault.subject_reference(made.tenant_id, subject) if subject else None
    with parts.database.transaction() as session:
        assert session.get_one(TenantRow, made.tenant_id)
        request = RequestRow(
            id=request_id,
            tenant_id=made.tenant_id,
            model_id=made.model_id,
            state="received",
            regulation="gdpr",
            submitted_at=utc_now(),
            due_at=utc_now(),
            method="undial",
            parameters=parameters or {},
            policy=thresholds.model_dump(mode="json"),
            policy_digest=thresholds.digest(),
            subject_reference=reference,
            payload_file=sealed.digest,
            payload_rows=len(rows),
            wrapped_key=sealed.wrapped_key,
        )
        session.add(request)
        session.flush()
        job = jobs.add_job(session, session.get_one(ModelRow, made.model_id), [request], "key:test")
        return request_id, job.id


def claimed(parts: Parts) -> jobs.Claim:
    """Of the only job of a new model, by the owner `me`."""
    made = make_model(parts)
    make_request(parts, made)
    with parts.database.transaction() as session:
        held = jobs.claim(session, made.model_id, "me", 60.0, 3)
    assert held is not None
    return held


def order_of(parts: Parts, made: Made) -> Order:
    """The order behind the model's next job, claimed by the owner `me`."""
    with parts.database.transaction() as session:
        held = jobs.claim(session, made.model_id, "me", 60.0, 3)
        assert held is not None
        return read_order(session, held)


def planned(parts: Parts, made: Made) -> Plan:
    return make_plan(order_of(parts, made), parts.vault)


def put_dataset(parts: Parts, made: Made, role: str, rows: list[dict[str, Any]]) -> None:
    dataset_id = new_id("dat")
    sealed = parts.vault.seal(Owner(made.tenant_id, dataset_id), DATASET, jsonl(rows))
    row = DatasetRow(
        id=dataset_id,
        tenant_id=made.tenant_id,
        model_id=made.model_id,
        role=role,
        rows=len(rows),
        size_bytes=sealed.size_bytes,
        plain_digest=sealed.digest,
        file_digest=sealed.digest,
        wrapped_key=sealed.wrapped_key,
    )
    with parts.database.transaction() as session:
        session.add(row)


def jsonl(rows: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(row).encode() + b"\n" for row in rows]


def job_row(parts: Parts, job_id: str) -> JobRow:
    with parts.database.reading() as session:
        return session.get_one(JobRow, job_id)


def request_row(parts: Parts, request_id: str) -> RequestRow:
    with parts.database.reading() as session:
        return session.get_one(RequestRow, request_id)


def model_row(parts: Parts, made: Made) -> ModelRow:
    with parts.database.reading() as session:
        return session.get_one(ModelRow, made.model_id)


@pytest.fixture(scope="session")
def llm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved LLM that has memorised made-up people."""
    from tests.workers.people_model import save_llm

    folder = tmp_path_factory.mktemp("llm")
    save_llm(folder)
    return folder
