"""Destroying what is not to be kept, on both databases."""

from pathlib import Path

from sqlalchemy.orm import Session

from records import retention
from records.database import Database
from records.rows import EvidenceRow, RequestRow
from records.store import FolderStore
from tests.make import make_model, make_request


def sealed_request(session: Session, file: str, kept: EvidenceRow | None) -> RequestRow:
    request = make_request(session, make_model(session))
    request.payload_file, request.wrapped_key = file, b"forget-set-key"
    if kept is not None:
        kept.request_id, kept.tenant_id = request.id, request.tenant_id
        session.add(kept)
        session.flush()
    return request


def test_without_a_row_of_evidence_nothing_is_destroyed(database: Database) -> None:
    with database.transaction() as session:
        request = sealed_request(session, "a", None)
        retention.settle(session, request, "test")
        assert (request.payload_file, request.wrapped_key) == ("a", b"forget-set-key")


def test_the_key_goes_at_once_and_the_file_with_the_next_sweep(database: Database, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    file = store.put_bytes(b"sealed").digest
    with database.transaction() as session:
        request = sealed_request(session, file, EvidenceRow(words=7, n_hashes=1, hashes=b"8 bytes!"))
        for _ in range(2):
            retention.settle(session, request, "test")
            assert (request.payload_file, request.wrapped_key) == (None, None)
    assert retention.delete_spent(database, store) == 1
    assert not store.exists(file)
    with database.reading() as session:
        (kept,) = retention.hashed_of(session, [request.id])
        assert (kept.spent_file, kept.hashes) == (None, b"8 bytes!")
    assert retention.delete_spent(database, store) == 0


def test_canaries_take_the_place_of_the_forget_set(database: Database) -> None:
    with database.transaction() as session:
        request = sealed_request(session, "a", EvidenceRow(rows=1, file="b", wrapped_key=b"canaries-key"))
        for _ in range(2):
            retention.settle(session, request, "test")
            assert (request.payload_file, request.wrapped_key) == ("b", b"canaries-key")
        assert retention.hashed_of(session, [request.id]) == ()
        assert retention.shred(session, request, "test") == ["a", "b"]
        assert retention.shred(session, request, "test") == []
        assert request.wrapped_key is None
