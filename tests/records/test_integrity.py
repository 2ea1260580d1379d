"""What was measured, when and how it ended cannot be rewritten in the rows without the log telling."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from records import audit, jobs, requests
from records.base import new_id
from records.database import Database
from records.findings import Counts, Finding
from records.integrity import check_everything
from records.keys import KeyRing
from records.rows import AttemptRow, AuditEntryRow, JobRow, ModelRow, RequestRow
from records.states import Outcome
from records.store import FolderStore
from tests.make import make_model

ASKED = datetime(2026, 3, 1, 23, 30, 0, 123456, tzinfo=timezone(timedelta(hours=-5)))
REPORT = {"groups": {"forget": 0.25}, "notes": ["ä"], "seconds": 1.0, "steps": 3}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def forgotten(database: Database) -> str:
    """A request that ended as not_memorised after one attempt, asked in another zone than UTC."""
    with database.transaction() as session:
        model = make_model(session)
        request = request_of(model)
        requests.submit(session, model, request, "test")
    with database.transaction() as session:
        held = jobs.claim(session, model.id, "one", 60.0, max_executions=3)
    assert held is not None
    for words in ("before a crash", "told anew"):
        row = AttemptRow(
            job_id=held.job_id,
            number=1,
            method="undial",
            parameters={},
            verdict="not_memorised",
            reason=words,
            report={**REPORT, "notes": [words]},
        )
        with database.transaction() as session:
            jobs.add_attempt(session, held, row)
    with database.transaction() as session:
        jobs.finish(session, held, Outcome.NOT_MEMORISED)
    return request.id


def request_of(model: ModelRow) -> RequestRow:
    return RequestRow(
        id=new_id("req"),
        tenant_id=model.tenant_id,
        model_id=model.id,
        state="received",
        regulation="gdpr",
        submitted_at=ASKED,
        due_at=ASKED + timedelta(days=30),
        method="undial",
        parameters={},
        policy={},
        policy_digest="0" * 64,
    )


def findings(database: Database, store: FolderStore, keys: KeyRing) -> list[Finding]:
    """But for version 1, whose files no test here makes."""
    with database.reading() as session:
        found = list(check_everything(session, store, keys, Counts()))
    return [one for one in found if not one.where.startswith("version")]


def test_what_nobody_changed_is_whole(database: Database, store: FolderStore, keys: KeyRing, forgotten: str) -> None:
    assert findings(database, store, keys) == []


@pytest.mark.parametrize(
    ("row", "values", "name"),
    [
        (AttemptRow, {"verdict": "accepted"}, "verdict"),
        (AttemptRow, {"verdict": None}, "verdict"),
        (AttemptRow, {"report": {**REPORT, "steps": 4}}, "report"),
        (AttemptRow, {"report": None}, "report"),
        (RequestRow, {"outcome": "forgotten"}, "outcome"),
        (RequestRow, {"outcome": None}, "outcome"),
        (RequestRow, {"due_at": datetime(2099, 1, 1, tzinfo=UTC)}, "due_at"),
        (RequestRow, {"submitted_at": datetime(2020, 1, 1, tzinfo=UTC)}, "submitted_at"),
        (RequestRow, {"submitted_at": ASKED + timedelta(microseconds=1)}, "submitted_at"),
        (RequestRow, {"regulation": "ccpa"}, "regulation"),
    ],
)
def test_a_rewritten_result_is_found(
    database: Database,
    store: FolderStore,
    keys: KeyRing,
    forgotten: str,
    row: type[Any],
    values: dict[str, Any],
    name: str,
) -> None:
    with database.transaction() as session:
        session.execute(sa.update(row).values(**values))
    assert [one.what for one in findings(database, store, keys)] == [
        f"The row's {name} is not the one in the audit log."
    ]


def test_an_attempt_that_was_added_or_taken_out_is_found(
    database: Database, store: FolderStore, keys: KeyRing, forgotten: str
) -> None:
    with database.transaction() as session:
        session.execute(sa.update(AttemptRow).values(number=2))
    assert {one.where.split(" of ")[0] for one in findings(database, store, keys)} == {"attempt 1", "attempt 2"}


def test_an_outcome_given_to_a_request_that_has_not_ended_is_found(
    database: Database, store: FolderStore, keys: KeyRing
) -> None:
    with database.transaction() as session:
        model = make_model(session)
        requests.submit(session, model, request_of(model), "test")
        session.execute(sa.update(RequestRow).values(outcome="forgotten"))
    assert len(findings(database, store, keys)) == 1


def test_entries_of_an_earlier_release_say_less_and_are_whole(
    database: Database, store: FolderStore, keys: KeyRing
) -> None:
    with database.transaction() as session:
        model = make_model(session)
        request = request_of(model)
        session.add(request)
        session.flush()
        about = audit.About(model_id=model.id, request_id=request.id)
        audit.record(session, "request.received", model.tenant_id, "test", about, {"method": "undial", "rows": 0})
        job = jobs.add_job(session, model, [request], "test")
        session.add(attempt := AttemptRow(job_id=job.id, number=1, method="undial", parameters={}, reason=""))
        attempt.report, attempt.verdict = REPORT, "rejected"
        details = {"attempt": 1, "method": "undial", "verdict": "rejected"}
        about = audit.About(model_id=model.id, job_id=job.id)
        audit.record(session, "attempt.finished", model.tenant_id, "worker", about, details)
    assert findings(database, store, keys) == []


def test_a_value_that_is_none_of_its_kind_is_found(
    database: Database, store: FolderStore, keys: KeyRing, forgotten: str
) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("only SQLite keeps whatever is written into a column")
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE erasure_requests SET due_at = 2099"))
        connection.execute(sa.text("UPDATE attempts SET report = '{'"))
    assert {"requests", "attempts"} <= {one.where for one in findings(database, store, keys)}


def test_the_log_holds_a_digest_and_nothing_of_the_report(database: Database, forgotten: str) -> None:
    with database.reading() as session:
        told = session.scalars(sa.select(AuditEntryRow.event).where(AuditEntryRow.tag == "attempt.finished")).all()
        assert session.scalars(sa.select(JobRow.state)).all() == ["succeeded"]
    assert len(told) == 2
    assert all("sha256:" in event and "notes" not in event for event in told)
