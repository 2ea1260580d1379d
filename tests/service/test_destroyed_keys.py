"""A key that was destroyed is in no byte of the database's files, while the service runs on them."""

import sqlalchemy as sa
from starlette.testclient import TestClient

from records import erasures
from records.parts import Parts
from records.rows import EvidenceRow, RequestRow
from tests.conftest import Tenant
from tests.service import worker
from tests.service.conftest import submit
from workers.sweeper import Sweeper, chores_of

MANY = 40  # rows on more than one page: keys are moved about among them


def wrapped_keys(parts: Parts) -> dict[str, bytes]:
    with parts.database.reading() as session:
        found = session.execute(sa.select(RequestRow.id, RequestRow.wrapped_key).order_by(RequestRow.id)).all()
    return {request_id: key for request_id, key in found if key is not None}


def found_on_disk(parts: Parts, keys: dict[str, bytes]) -> set[str]:
    """The requests whose keys lie in the database's files. While it runs, both are there."""
    files = [parts.settings.place.folder / name for name in ("lethe.db", "lethe.db-wal")]
    content = b"".join(file.read_bytes() for file in files)
    return {request_id for request_id, key in keys.items() if key in content}


def shred(client: TestClient, tenant: Tenant, request_id: str) -> None:
    path = f"/v1/erasure-requests/{request_id}"
    client.post(f"{path}/cancel", headers=tenant.headers)
    assert client.delete(f"{path}/payload", headers=tenant.headers).status_code == 204


def test_a_shredded_key_is_in_neither_file(client: TestClient, ours: Tenant, parts: Parts, model: str) -> None:
    for number in range(MANY):
        submit(client, ours, model, external_id="x" * (number % 7) * 20)
    keys = wrapped_keys(parts)
    assert found_on_disk(parts, keys) == set(keys)
    gone = list(keys)[::2]
    for request_id in gone:
        shred(client, ours, request_id)
        assert request_id not in found_on_disk(parts, keys)
    assert found_on_disk(parts, keys) == set(keys) - set(gone)


def test_what_a_job_destroys_goes_with_the_next_sweep(
    client: TestClient, ours: Tenant, parts: Parts, model: str
) -> None:
    request_id = submit(client, ours, model, evidence="hashes").json()["id"]
    keys = wrapped_keys(parts)
    worker.publish(parts, request_id)
    with parts.database.reading() as session:
        assert session.get_one(EvidenceRow, request_id).spent_file is not None
    sweeper = Sweeper(parts.database, [one for one in chores_of(parts) if one.name == "erasures"], 1.0)
    assert sweeper.sweep()
    assert found_on_disk(parts, keys) == set()


def test_who_reads_an_earlier_state_puts_it_off(client: TestClient, ours: Tenant, parts: Parts, model: str) -> None:
    request_id = submit(client, ours, model).json()["id"]
    keys = wrapped_keys(parts)
    with parts.database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(RequestRow)) == 1
        shred(client, ours, request_id)
        assert found_on_disk(parts, keys) == {request_id}
        submit(client, ours, model)  # nobody waits for the reader
    erasures.keep_up(parts.database, parts.store)
    assert found_on_disk(parts, keys) == set()


def test_deleted_bytes_are_overwritten_however_sqlite_was_compiled(parts: Parts) -> None:
    with parts.database.reading() as session:
        assert session.connection().exec_driver_sql("PRAGMA secure_delete").scalar() == 1
