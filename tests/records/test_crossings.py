"""What a worker writes while the API writes beside it: neither undoes the other."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import jobs, quotas, requests, versions, webhooks
from records.base import utc_now
from records.database import Database
from records.keys import KeyRing
from records.rows import DeliveryRow, ModelRow
from records.settings import LimitSettings
from tests.make import digest, make_job, make_model, make_request

URL = "https://example.com/hooks"
SOON_SECONDS = 0.3  # far more than a statement takes, far less than a server waits before it looks for a deadlock


@pytest.fixture
def held(database: Database) -> jobs.Claim:
    with database.transaction() as session:
        model_id = make_job(session, make_model(session)).model_id
    with database.transaction() as session:
        found = jobs.claim(session, model_id, "one", 60.0, max_executions=3)
    assert found is not None
    return found


def publish(session: Session, held: jobs.Claim) -> None:
    versions.publish(session, held, 2, versions.Files(digest("1"), 1))


def test_a_submission_and_a_publication_do_not_wait_for_each_other_in_a_circle(
    database: Database, held: jobs.Claim
) -> None:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer")
    counted = threading.Event()

    def submit() -> None:
        with database.transaction() as session:
            quotas.check_requests(session, held.tenant_id, LimitSettings())
            counted.set()
            model = session.get_one(ModelRow, held.model_id, with_for_update=True)
            requests.submit(session, model, make_request(session, model), "test")

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as session:
            jobs.hold(session, held)
            submitted = pool.submit(submit)
            assert counted.wait(10.0)
            time.sleep(SOON_SECONDS)  # the submission is waiting for the model by now
            publish(session, held)
        submitted.result(10.0)


def test_an_endpoint_that_goes_meanwhile_does_not_undo_a_publication(
    database: Database, held: jobs.Claim, keys: KeyRing
) -> None:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer")
    with database.transaction() as session:
        hook = webhooks.add(session, held.tenant_id, URL, [webhooks.EVERY], "test", keys)
    deleted = threading.Event()

    def delete() -> None:
        with database.transaction() as session:
            webhooks.delete(session, held.tenant_id, hook.id, "test")
            session.flush()
            deleted.set()
            time.sleep(SOON_SECONDS)  # the publication has met the endpoint by now

    with ThreadPoolExecutor(1) as pool:
        deletion = pool.submit(delete)
        assert deleted.wait(10.0)
        with database.transaction() as session:
            publish(session, held)
        deletion.result(10.0)
    with database.reading() as session:
        assert session.get_one(ModelRow, held.model_id).head == 2
        assert session.scalar(sa.select(sa.func.count()).select_from(DeliveryRow)) == 0


def test_a_delivery_told_again_during_a_try_is_not_put_off_by_a_day(database: Database, keys: KeyRing) -> None:
    with database.transaction() as session:
        model = make_model(session)
        hook = webhooks.add(session, model.tenant_id, URL, [webhooks.EVERY], "test", keys)
        webhooks.note_request(session, make_request(session, model), "queued")
    with database.transaction() as session:
        found = webhooks.claim_due(session, {}, 1)
        assert found is not None
    with database.transaction() as session:
        webhooks.redeliver(session, webhooks.find(session, hook.tenant_id, hook.id), found.id, "test")
    with database.transaction() as session:
        webhooks.failed(session, found.id, None, "timeout")  # of the try that was under way
    with database.reading() as session:
        next_at = session.get_one(DeliveryRow, found.id).next_at
        assert next_at is not None
        assert next_at < utc_now() + timedelta(minutes=1)
