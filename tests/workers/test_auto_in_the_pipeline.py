"""A whole job under `auto`, in a child process: its report says what was chosen, why, and what was held in place."""

from pathlib import Path

import pytest

from records import jobs
from records.params.auto import FITTED, ChoiceRecord, choose
from records.params.facts import facts_of
from records.parts import Parts
from records.report import Report
from records.rows import RequestRow
from tests.workers.conftest import put_dataset
from tests.workers.people_model import NEVER_TRAINED, forget_person, import_folder, rows_of
from tests.workers.test_pipeline import supervisor_of

pytestmark = pytest.mark.slow


def test_the_report_says_what_auto_chose_and_that_the_llms_own_text_was_held(parts: Parts, llm_folder: Path) -> None:
    made = import_folder(parts, llm_folder)
    put_dataset(parts, made, "control", rows_of(NEVER_TRAINED))
    request_id, job_id = forget_person(parts, made, "Ada", epochs=2)
    with parts.database.transaction() as session:
        row = session.get_one(RequestRow, request_id)
        choice = choose(facts_of(parts.vault.forget_set(row), ["control"], ("llama", 2), [], [row.method]))
        row.choice = ChoiceRecord(by="auto", reasons=choice.reasons, open=FITTED).model_dump(mode="json")
    supervisor_of(parts).advance(made.model_id)
    with parts.database.reading() as session:
        reports = [Report.model_validate(attempt.report) for attempt in jobs.attempts_of(session, job_id)]
    assert reports
    for report in reports:
        assert report.notes[:2] == choice.reasons
        assert report.notes[0].startswith("auto chose undial: 2 of 2 examples are prompts with their answers")
        assert any("texts sampled from the LLM itself" in note for note in report.notes)
        assert (report.method, report.parameters["tuning"]) == ("undial", "full")
        assert "Ada" not in str(report.notes)
