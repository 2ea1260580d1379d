"""The log in the database: every committed state has a signed head, and a changed byte anywhere is found."""

import json
import threading

import pytest
import sqlalchemy as sa

from records import audit, merkle
from records.database import Database
from records.keys import KeyRing
from records.rows import AuditEntryRow, AuditNodeRow, TreeHeadRow
from records.signing import verify_checkpoint


def write(database: Database, count: int, tag: str = "thing.done") -> None:
    for number in range(count):
        with database.transaction() as session:
            audit.record(session, tag, "ten_1", "test", audit.About(request_id=f"req_{number}"), {"n": number})


def check(database: Database, keys: KeyRing) -> int:
    with database.reading() as session:
        return audit.check_log(session, keys.public().log_verifier_key)


def test_every_commit_with_events_has_a_signed_head(database: Database, keys: KeyRing) -> None:
    with database.transaction() as session:
        for number in range(3):
            audit.record(session, "thing.done", None, "test", audit.About(), {"n": number})
    write(database, 2)
    with database.reading() as session:
        heads = list(session.scalars(sa.select(TreeHeadRow).order_by(TreeHeadRow.size)))
    assert [head.size for head in heads] == [3, 4, 5]
    assert verify_checkpoint(heads[-1].note, keys.public().log_verifier_key).root == heads[-1].root
    assert check(database, keys) == 5


def test_a_rolled_back_transaction_leaves_no_entry(database: Database, keys: KeyRing) -> None:
    write(database, 1)
    with pytest.raises(sa.exc.DBAPIError), database.transaction() as session:  # noqa: PT012 - the block is the transaction
        audit.record(session, "thing.done", None, "test", audit.About(), {})
        session.execute(sa.text("SELECT 1 / 0 FROM no_such_table"))
    assert check(database, keys) == 1


def test_stored_proofs_verify(database: Database) -> None:
    write(database, 7)
    with database.reading() as session:
        entries = list(session.scalars(sa.select(AuditEntryRow).order_by(AuditEntryRow.position)))
        roots = {head.size: head.root for head in session.scalars(sa.select(TreeHeadRow))}
        for entry in entries:
            proof = audit.inclusion_proof(session, entry.position, 7)
            leaf = merkle.leaf_hash(entry.commitment)
            assert merkle.verify_inclusion(leaf, entry.position, 7, proof, roots[7])
        for size in range(1, 8):
            steps = audit.consistency_proof(session, size, 7)
            assert merkle.verify_consistency(size, 7, steps, roots[size], roots[7])


def test_concurrent_writers_share_one_log(database: Database, keys: KeyRing) -> None:
    threads = [threading.Thread(target=write, args=(database, 10, f"writer.{n}")) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert check(database, keys) == 40


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        (AuditEntryRow, "event", None),
        (AuditEntryRow, "salt", b"\x00" * 32),
        (AuditEntryRow, "commitment", b"\x00" * 32),
        (AuditEntryRow, "tag", "thing.undone"),
        (AuditEntryRow, "tenant_id", "ten_2"),
        (AuditEntryRow, "request_id", "req_9"),
        (AuditEntryRow, "model_id", "mod_9"),
        (AuditEntryRow, "job_id", "job_9"),
        (AuditNodeRow, "hash", b"\x00" * 32),
        (TreeHeadRow, "root", b"\x00" * 32),
        (TreeHeadRow, "note", "changed"),
    ],
)
def test_a_change_in_any_column_is_found(database: Database, keys: KeyRing, row, column: str, value) -> None:
    write(database, 4)
    with database.transaction() as session:
        found = session.scalars(sa.select(row).limit(1)).one()
        setattr(found, column, (found.event.replace('"n":0', '"n":1') if value is None else value))
    with pytest.raises(audit.LogBroken):
        check(database, keys)


def test_white_space_in_an_event_is_a_change_too(database: Database, keys: KeyRing) -> None:
    write(database, 1)
    with database.transaction() as session:
        entry = session.get_one(AuditEntryRow, 0)
        entry.event = json.dumps(json.loads(entry.event))
    with pytest.raises(audit.LogBroken, match="Entry 0 was changed"):
        check(database, keys)


def test_a_log_that_grows_while_it_is_read_is_not_broken(database: Database, keys: KeyRing) -> None:
    write(database, 3)
    with database.reading() as session:
        assert audit.log_size(session) == 3
        write(database, 2)
        audit.check_newest(session, keys.public().log_verifier_key, 2)
        assert audit.check_log(session, keys.public().log_verifier_key) == 3


@pytest.mark.parametrize("row", [AuditEntryRow, TreeHeadRow, AuditNodeRow])
def test_a_deleted_row_is_found(database: Database, keys: KeyRing, row) -> None:
    write(database, 3)
    with database.transaction() as session:
        last = session.scalars(sa.select(row).order_by(*sa.inspect(row).primary_key)).all()[-1]
        session.delete(last)
    with pytest.raises(audit.LogBroken):
        check(database, keys)


def test_another_key_does_not_verify(database: Database, tmp_path) -> None:
    write(database, 1)
    other = KeyRing.from_folder(tmp_path / "other", "test.local/audit")
    with pytest.raises(audit.LogBroken, match="does not verify"):
        check(database, other)
