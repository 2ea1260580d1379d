"""What an order says of the model's reference."""

import pytest
from sqlalchemy.orm import Session

from records import jobs, models, moves, orders, versions
from records.database import Database
from records.states import VersionState
from tests.make import digest, make_job, make_model, make_tenant


def order_of(session: Session, model_id: str) -> orders.Order:
    held = jobs.claim(session, model_id, "test", lease_seconds=60.0, max_executions=3)
    assert held is not None
    return orders.read_order(session, held)


@pytest.mark.parametrize("named", [True, False])
def test_the_reference_is_version_1_of_the_model_that_is_named(database: Database, named: bool) -> None:
    with database.transaction() as session:
        tenant = make_tenant(session)
        reference, model = make_model(session, tenant), make_model(session, tenant)
        models.set_reference(session, model, reference if named else None, "test")
        make_job(session, model)
        assert order_of(session, model.id).reference_manifest == (digest("0") if named else None)


def test_a_reference_whose_first_version_is_set_apart_gives_none(database: Database) -> None:
    with database.transaction() as session:
        tenant = make_tenant(session)
        reference, model = make_model(session, tenant), make_model(session, tenant)
        models.set_reference(session, model, reference, "test")
        first = versions.version_of(session, reference.id, 1)
        assert first is not None
        moves.move(session, first, VersionState.QUARANTINED, "test")
        make_job(session, model)
        assert order_of(session, model.id).reference_manifest is None
