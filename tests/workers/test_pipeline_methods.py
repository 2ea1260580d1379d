"""Whole jobs by methods other than the default, from a request's row to a signed version or an honest refusal."""

from pathlib import Path
from typing import Any

import pytest

from records import attestation, jobs
from records.manifest import Manifest
from records.parts import Parts
from records.report import Report
from records.rows import RequestRow
from tests.make_people import TRAINED, people
from tests.workers.conftest import Made, model_row, put_dataset, request_row
from tests.workers.people_model import forget_person, make_people_model, wire
from tests.workers.test_pipeline import supervisor_of, version_row

pytestmark = pytest.mark.slow


def forget_by(parts: Parts, llm_folder: Path, method: str, parameters: dict[str, Any]) -> tuple[Made, str, str]:
    """(model, request id, job id) of a request to forget Ada by this method, its job done."""
    made = make_people_model(parts, llm_folder)
    put_dataset(parts, made, "utility", [wire(one) for one in people(TRAINED[1:])])
    request_id, job_id = forget_person(parts, made, "Ada")
    with parts.database.transaction() as session:
        request = session.get_one(RequestRow, request_id)
        request.method, request.parameters = method, parameters
    supervisor_of(parts).advance(made.model_id)
    return made, request_id, job_id


def reports_of(parts: Parts, job_id: str) -> list[Report]:
    with parts.database.reading() as session:
        return [Report.model_validate(one.report) for one in jobs.attempts_of(session, job_id)]


def reasons_of(parts: Parts, job_id: str) -> list[str]:
    with parts.database.reading() as session:
        return [one.reason for one in jobs.attempts_of(session, job_id)]


def test_another_method_publishes_a_signed_version(parts: Parts, llm_folder: Path) -> None:
    parameters = {"learning_rate": 2e-3, "epochs": 80, "retain_kind": "kl", "retain_weight": 1.0, "stop_ratio": 0.3}
    made, request_id, job_id = forget_by(parts, llm_folder, "npo", parameters)
    request, report = request_row(parts, request_id), reports_of(parts, job_id)[-1]
    assert (request.state, request.outcome) == ("completed", "forgotten"), reasons_of(parts, job_id)
    assert (report.method, report.parameters["retain_kind"]) == ("npo", "kl")
    row = version_row(parts, made, 2)
    assert row is not None
    assert row.attestation_digest is not None
    statement = attestation.verify_attestation(
        parts.store.read_bytes(row.attestation_digest),
        parts.keys.log.public_key(),
        Manifest.from_json(parts.store.read_bytes(row.manifest_digest)),
    )
    assert "npo" in str(statement.predicate["procedure"])


def test_general_rows_hold_the_llm_in_place_and_the_report_says_where_they_came_from(
    parts: Parts, llm_folder: Path
) -> None:
    _, request_id, job_id = forget_by(
        parts, llm_folder, "ascent_descent_general", {"learning_rate": 2e-3, "stop_ratio": 0.3, "retain_weight": 8.0}
    )
    [report] = reports_of(parts, job_id)
    assert request_row(parts, request_id).outcome == "forgotten", reasons_of(parts, job_id)
    assert report.parameters["retain_source"] == "utility"
    assert any("few" in note for note in report.notes)


def test_a_method_that_ruins_the_llm_is_tried_gentler_and_never_published(parts: Parts, llm_folder: Path) -> None:
    ruinous = {"learning_rate": 1e-2, "ceiling": None, "stop_ratio": 0.1, "epochs": 40}
    made, request_id, job_id = forget_by(parts, llm_folder, "gradient_ascent", ruinous)
    assert request_row(parts, request_id).state == "failed"
    assert model_row(parts, made).head == 1
    rates = [one.parameters["learning_rate"] for one in reports_of(parts, job_id)]
    assert rates == [1e-2, 5e-3, 2.5e-3], reasons_of(parts, job_id)
