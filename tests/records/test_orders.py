"""What an order says of the model's reference, and of the consolidations before it."""

import pytest
from sqlalchemy.orm import Session

from records import jobs, models, moves, orders, versions
from records.database import Database
from records.rows import AttemptRow, ModelRow
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


def test_a_consolidation_that_came_to_nothing_is_remembered_for_some_versions(database: Database) -> None:
    told = []
    with database.transaction() as session:
        model_id = make_model(session).id
    for missed in (None, False, True, *[False] * orders.PUT_OFF):
        with database.transaction() as session:
            model = session.get_one(ModelRow, model_id)
            make_job(session, model)
            order = order_of(session, model.id)
            told.append(order.missed_anew)
            training = {} if missed is None else {"anew": False, "missed_anew": missed}
            about = {"verdict": "accepted", "reason": "", "report": {"training": training}}
            job_id = order.held.job_id
            row = AttemptRow(job_id=job_id, number=1, method="undial", parameters={}, **about)
            jobs.add_attempt(session, order.held, row)
            number = versions.next_number(session, model.id)
            versions.publish(session, order.held, number, versions.Files(digest("a"), 1))
    with database.transaction() as session:
        make_job(session, session.get_one(ModelRow, model_id))
        told.append(order_of(session, model_id).missed_anew)
    assert told == [False] * 3 + [True] * orders.PUT_OFF + [False]
