"""A job after a request of which only hashes were kept, in real child processes."""

from pathlib import Path

import pytest

from records import jobs
from records.evidence import answers_of
from records.examples import ExampleRecord
from records.parts import Parts
from records.report import Report
from records.rows import EvidenceRow, RequestRow
from records.sealing import PayloadShredded
from tests.workers.conftest import Made, request_row
from tests.workers.people_model import forget_all_of, make_people_model, rows_of
from tests.workers.test_pipeline import supervisor_of

pytestmark = pytest.mark.slow


def keep_hashes(parts: Parts, made: Made, request_id: str, name: str) -> None:
    """What taking in a request with `evidence: hashes` writes beside it."""
    answers = answers_of(ExampleRecord.model_validate(row) for row in rows_of([name]))
    hashes = parts.vault.hashed(answers, made.tenant_id, 7)
    with parts.database.transaction() as session:
        session.get_one(RequestRow, request_id).evidence = "hashes"
        session.add(
            EvidenceRow(
                request_id=request_id,
                tenant_id=made.tenant_id,
                rows=0,
                words=hashes.words,
                n_hashes=len(hashes.digests),
                hashes=hashes.packed(),
            )
        )


def test_a_later_job_searches_its_answers_for_what_is_kept_as_hashes(parts: Parts, llm_folder: Path) -> None:
    made = make_people_model(parts, llm_folder)
    first, _ = forget_all_of(parts, made, "Ada")
    keep_hashes(parts, made, first, "Ada")
    second, second_job = forget_all_of(parts, made, "Bo")
    assert supervisor_of(parts).advance(made.model_id) == 2

    assert request_row(parts, second).outcome == "forgotten"
    with pytest.raises(PayloadShredded):
        parts.vault.forget_set(request_row(parts, first))
    with parts.database.reading() as session:
        report = Report.model_validate(jobs.attempts_of(session, second_job)[-1].report)
    [found] = report.hashed
    assert (found.request_id, found.after, found.gained) == (first, 0, 0)
    assert found.n_questions >= len(rows_of(["Bo"]))
    assert report.earlier == ()
    asked = [one for one in report.checks if one.gate == "G7" and first in one.name + one.words]
    assert {one.outcome for one in asked} == {"pass"}
    assert len(asked) > 1  # under attack too
