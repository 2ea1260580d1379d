"""What a request measured when it had just been forgotten, found again in the reports of later jobs; both databases."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from records import jobs, orders
from records.database import Database
from records.own_times import own_times
from records.report import OwnTime
from records.rows import AttemptRow, JobRow, ModelRow
from tests.make import make_job, make_model


def numbers(strength: float) -> dict[str, Any]:
    return {"token_probability": 0.1, "exact": 0, "extraction_strength": strength, "greedy_hits": 0, "sampled_items": 0}


def asked(request_id: str, before: float, after: float, n_items: int = 5) -> dict[str, Any]:
    return {"request_id": request_id, "n_items": n_items, "before": numbers(before), "after": numbers(after)}


def made(session: Session, model: ModelRow, base: int, *attempts: list[dict[str, Any]] | None) -> JobRow:
    """A finished job whose attempts measured these earlier requests; None measured nothing."""
    job = make_job(session, model)
    job.state, job.base_version = "succeeded", base
    session.add_all(
        AttemptRow(
            job_id=job.id,
            number=number,
            method="undial",
            parameters={},
            reason="words",
            report=None if earlier is None else {"schema_version": 2, "earlier": earlier},
        )
        for number, earlier in enumerate(attempts, start=1)
    )
    session.flush()
    return job


def strengths(found: dict[str, OwnTime]) -> dict[str, tuple[int, float]]:
    return {name: (one.version, one.numbers.extraction_strength) for name, one in found.items()}


def test_the_first_report_that_asks_a_request_again_has_its_own_time(database: Database) -> None:
    with database.transaction() as session:
        model, other = make_model(session), make_model(session)
        made(session, model, 1, None)
        made(session, model, 2, None, [asked("req_a", 0.02, 0.03)], [asked("req_a", 0.02, 0.09)])
        made(session, model, 3, [asked("req_a", 0.03, 0.06), asked("req_b", 0.01, 0.02)])
        made(session, other, 1, [asked("req_c", 0.5, 0.5)])
        running = made(session, model, 4, [asked("req_d", 0.04, 0.04)])
        assert strengths(own_times(session, model.id, running.id)) == {"req_a": (2, 0.02), "req_b": (3, 0.01)}


@pytest.mark.parametrize("report", [{"schema_version": 1}, {"earlier": []}, {}])
def test_reports_that_asked_nobody_again_say_nothing(database: Database, report: dict[str, Any]) -> None:
    with database.transaction() as session:
        model = make_model(session)
        job = made(session, model, 1, None)
        session.get_one(AttemptRow, (job.id, 1)).report = report
        session.flush()
        assert own_times(session, model.id, "job_other") == {}


def test_an_order_brings_them(database: Database) -> None:
    with database.transaction() as session:
        model = make_model(session)
        made(session, model, 1, [asked("req_a", 0.02, 0.03)])
        make_job(session, model)
        held = jobs.claim(session, model.id, "test", lease_seconds=60.0, max_executions=3)
        assert held is not None
        assert strengths(orders.read_order(session, held).own_times) == {"req_a": (1, 0.02)}
