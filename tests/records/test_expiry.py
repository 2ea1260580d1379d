"""What the operator lets go by itself, and that nothing goes where nobody said so."""

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from records import expiry, jobs, versions
from records.base import utc_now
from records.database import Database
from records.expiry import expire
from records.rows import AuditEntryRow, EvidenceRow, ModelRow, RequestRow, VersionRow
from records.settings import RetentionSettings
from records.store import FolderStore
from tests.make import digest, make_job, make_model, make_request

ALL = {"payload_days": 30, "examples_days": 30, "superseded_days": 30}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def ended(database: Database, store: FolderStore, state: str, days: float) -> str:
    """A request that ended so many days ago, with a forget set in the store."""
    with database.transaction() as session:
        request = make_request(session, make_model(session))
        request.payload_file, request.wrapped_key = store.put_bytes(request.id.encode()).digest, b"key"
        request.state, request.updated_at = state, utc_now() - timedelta(days=days)
        return request.id


def held(database: Database) -> set[str]:
    with database.reading() as session:
        return set(session.scalars(sa.select(RequestRow.id).where(RequestRow.wrapped_key.is_not(None))))


def settings(**days: float) -> RetentionSettings:
    return RetentionSettings(**days)


def test_by_default_everything_is_kept(database: Database, store: FolderStore) -> None:
    ended(database, store, "failed", 10_000)
    ended(database, store, "completed", 10_000)
    assert expire(database, store, settings()) == 0
    assert len(held(database)) == 2


def test_forget_sets_go_when_their_time_is_over(database: Database, store: FolderStore) -> None:
    old = [ended(database, store, state, 31) for state in ("failed", "cancelled", "rejected")]
    stay = {ended(database, store, state, 31) for state in ("completed", "queued", "running", "needs_review")}
    young = ended(database, store, "failed", 29)
    assert expire(database, store, settings(payload_days=30)) == 3
    assert held(database) == stay | {young}
    assert len(list(store.iter_digests())) == 5
    with database.reading() as session:
        shredded = sa.select(AuditEntryRow).where(AuditEntryRow.tag == "payload.shredded")
        assert sorted(row.request_id or "" for row in session.scalars(shredded)) == sorted(old)
    assert expire(database, store, settings(payload_days=30)) == 0


def test_what_is_held_of_completed_requests_has_a_time_of_its_own(database: Database, store: FolderStore) -> None:
    ended(database, store, "completed", 31)
    hashed = ended(database, store, "completed", 31)
    failed = ended(database, store, "failed", 31)
    with database.transaction() as session:
        request = session.get_one(RequestRow, hashed)
        session.execute(
            sa.update(RequestRow).where(RequestRow.id == hashed)
            .values(wrapped_key=None, payload_file=None, updated_at=request.updated_at)
        )  # fmt: skip
        session.add(EvidenceRow(request_id=hashed, tenant_id=request.tenant_id, n_hashes=1, hashes=b"8 bytes!"))
    assert expire(database, store, settings(examples_days=30)) == 2
    assert held(database) == {failed}
    with database.reading() as session:
        assert session.scalars(sa.select(EvidenceRow)).all() == []


def lineage(database: Database, count: int) -> str:
    """A model with so many versions; the last is head."""
    with database.transaction() as session:
        model_id = make_model(session).id
    for number in range(2, count + 1):
        with database.transaction() as session:
            make_job(session, session.get_one(ModelRow, model_id))
        with database.transaction() as session:
            claim = jobs.claim(session, model_id, "test", 60.0, 3)
            assert claim is not None
            versions.publish(session, claim, number, versions.Files(digest(str(number)), 1))
    with database.transaction() as session:
        session.execute(sa.update(VersionRow).values(created_at=utc_now() - timedelta(days=100)))
    return model_id


def states(database: Database, model_id: str) -> list[str]:
    with database.reading() as session:
        query = sa.select(VersionRow.state).where(VersionRow.model_id == model_id).order_by(VersionRow.number)
        return list(session.scalars(query))


def test_superseded_versions_are_purged_by_when_they_were_superseded(
    database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id, compared = lineage(database, 3), lineage(database, 2)
    with database.transaction() as session:
        session.get_one(ModelRow, model_id).reference_id = compared
    assert expire(database, store, settings(superseded_days=30)) == 0  # superseded just now, whenever they were made
    monkeypatch.setattr(expiry, "utc_now", lambda: utc_now() + timedelta(days=31))
    assert expire(database, store, settings(superseded_days=30)) == 2
    assert states(database, model_id) == ["purged", "purged", "published"]
    assert states(database, compared) == ["superseded", "published"]
    assert expire(database, store, settings(superseded_days=30)) == 0


def test_a_legal_hold_is_kept(database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    model_id = lineage(database, 2)
    with database.transaction() as session:
        session.execute(sa.update(VersionRow).where(VersionRow.number == 1).values(state="legal_hold"))
    monkeypatch.setattr(expiry, "utc_now", lambda: utc_now() + timedelta(days=31))
    assert expire(database, store, settings(**ALL)) == 0
    assert states(database, model_id) == ["legal_hold", "published"]
