"""What follows a verdict, with attempts that were judged beforehand: the next one, a version, or a person."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from records import jobs, orders
from records.attempts import decisive, for_review
from records.params import Attempt, UndialParameters
from records.parts import Parts
from records.policy import Policy
from records.report import Check, Report, Verdict, VerdictKind
from records.rows import AttemptRow
from records.versions import Files
from tests.workers.conftest import Made, job_row, make_model, make_request, model_row, request_row
from workers import errors, pipeline
from workers.attempts import only_a_person_can
from workers.publish import Candidate
from workers.ranks import Team
from workers.stages import Stages

GIVEN = UndialParameters(learning_rate=1e-4)
ACCEPTED, REJECTED, REVIEW = VerdictKind.ACCEPTED, VerdictKind.REJECTED, VerdictKind.NEEDS_REVIEW
Scripted = Verdict | Exception


def verdict(kind: VerdictKind, *sides: str) -> Verdict:
    outcome = {ACCEPTED: "pass", REJECTED: "reject", REVIEW: "review"}[kind]
    checks = [Check.model_validate({"name": one, "outcome": outcome, "side": one, "words": one}) for one in sides]
    return Verdict(kind=kind, reasons=tuple(sides) or ("fine",), checks=tuple(checks))


class Stage:
    """A job whose attempts come to what a script says; `made` are their numbers and step sizes."""

    def __init__(self, parts: Parts, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parts, self.folder, self.made = parts, folder, list[tuple[int, float]]()
        self.model = make_model(parts)
        self.request_id, self.job_id = make_request(parts, self.model)
        self.script: dict[int, Scripted] = {}
        self.anew = False
        self.kept_folders: list[list[str]] = []
        monkeypatch.setattr(pipeline._Job, "_attempt", self._attempt)
        monkeypatch.setattr(pipeline, "store_candidate", self._stored)

    def run(self, *script: Scripted) -> None:
        """One execution; `script` is by attempt number."""
        self.script = dict(enumerate(script, start=1))
        with self.parts.database.transaction() as session:
            held = jobs.claim(session, self.model.model_id, "test", 0.001, 9)
            assert held is not None
            order = orders.read_order(session, held)
        voice: Any = SimpleNamespace(progress=lambda *_: None)
        plan = SimpleNamespace(parameters=GIVEN, policy=Policy(), method="undial")
        anew = lambda number: self.anew and number == 1  # noqa: E731
        ready: Any = SimpleNamespace(order=order, plan=plan, base=None, anew=anew)
        team = Team(1, self.folder, self.parts.settings.worker, held)
        pipeline._Job(held, self.parts, voice, self.folder, Stages(held), team).attempt_until_done(ready)

    def _attempt(self, _ready: Any, number: int, attempt: Attempt) -> Candidate:
        self.made.append((number, attempt.parameters.learning_rate))
        folder = self.folder / f"candidate-{number}"
        folder.mkdir(exist_ok=True)
        self.kept_folders.append(sorted(one.name for one in self.folder.iterdir()))
        found = self.script[number]
        if isinstance(found, Exception):
            raise found
        training = {"anew": self.anew and number == 1}
        report = Report(
            method="undial", parameters={}, seeds={}, seconds={}, groups={}, training=training, checks=found.checks
        )
        return Candidate(folder, number, attempt.parameters, report, found, 1)

    def _stored(self, _parts: Parts, order: orders.Order, _base: Any, candidate: Candidate) -> tuple[int, Files]:
        assert candidate.folder.is_dir()
        return 2, Files("sha256:" + f"{candidate.attempt}" * 64, 1)

    @property
    def verdicts(self) -> list[str | None]:
        return [one.verdict for one in self.rows]

    @property
    def rows(self) -> list[AttemptRow]:
        with self.parts.database.reading() as session:
            return jobs.attempts_of(session, self.job_id)

    def end(self) -> tuple[str, int | None, str]:
        """(the request's state, the head, its reason)."""
        request = request_row(self.parts, self.request_id)
        return request.state, model_row(self.parts, Made("", self.model.model_id)).head, request.reason or ""


@pytest.fixture
def job(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return Stage(parts, folder, monkeypatch)


def test_what_a_person_was_asked_about_is_mended_by_the_next_attempt(job: Stage) -> None:
    job.run(verdict(REVIEW, "utility"), verdict(ACCEPTED))
    assert job.end() == ("completed", 2, "")
    assert job.verdicts == ["needs_review", "accepted"]
    assert [rate < GIVEN.learning_rate for _, rate in job.made] == [False, True]  # gentler, as the failing side says
    assert job.kept_folders[1] == ["candidate-1", "candidate-2"]


def test_a_person_sees_the_candidate_that_fails_the_fewest_criteria(job: Stage) -> None:
    job.run(verdict(REVIEW, "utility", "power"), verdict(REVIEW, "forgetting"), verdict(REJECTED, "forgetting"))
    state, head, reason = job.end()
    assert (state, head) == ("needs_review", 1)
    assert reason == "attempt 2 of 3 fails the fewest criteria. forgetting."
    assert job.kept_folders[2] == ["candidate-2", "candidate-3"]  # the first cannot be chosen any more
    best = decisive(job.rows)
    assert best is not None
    assert best.number == 2


def test_of_equals_the_earliest_is_kept(job: Stage) -> None:
    job.run(verdict(REVIEW, "utility"), verdict(REVIEW, "forgetting"), verdict(REVIEW, "utility"))
    assert job.end()[2].startswith("attempt 1 of 3")
    assert sorted(one.name for one in job.folder.iterdir()) == ["candidate-1"]


def test_what_no_attempt_can_mend_goes_to_a_person_at_once(job: Stage) -> None:
    job.run(verdict(REVIEW, "power"))
    assert (job.end(), job.made) == (("needs_review", 1, "power."), [(1, GIVEN.learning_rate)])


def test_one_thing_that_can_be_mended_is_worth_another_attempt() -> None:
    assert only_a_person_can(verdict(REVIEW, "power"))
    assert not only_a_person_can(verdict(REVIEW, "power", "utility"))
    assert not only_a_person_can(verdict(REJECTED, "power"))
    assert not only_a_person_can(verdict(ACCEPTED))


def test_a_consolidation_for_a_person_is_followed_by_an_ordinary_attempt(job: Stage) -> None:
    job.anew = True
    job.run(verdict(REVIEW, "utility"), verdict(ACCEPTED))
    assert [rate for _, rate in job.made] == [GIVEN.learning_rate] * 2
    assert job.end()[0] == "completed"


@pytest.mark.parametrize(
    "error", [errors.Diverged("words"), errors.TookTooLong("words"), RuntimeError("words"), errors.OutOfMemory("words")]
)
def test_a_consolidation_that_fails_is_followed_by_an_ordinary_attempt(job: Stage, error: Exception) -> None:
    job.anew = True
    job.run(error, verdict(ACCEPTED))
    assert [rate for _, rate in job.made] == [GIVEN.learning_rate] * 2
    assert job.end() == ("completed", 2, "")
    assert job.rows[0].reason.startswith("out_of_memory" if isinstance(error, errors.OutOfMemory) else "consolidation")


def test_after_a_consolidation_that_failed_a_crash_changes_nothing(job: Stage) -> None:
    job.anew = True
    killed(job, 2, RuntimeError("words"))
    job.run(RuntimeError("words"), verdict(ACCEPTED))
    assert job.made == [(2, GIVEN.learning_rate)]
    assert job.end()[0] == "completed"


@pytest.mark.parametrize(
    ("script", "code"),
    [((RuntimeError(),), "unexpected"), ((*[errors.Diverged("words")] * 3,), "diverged")],
)
def test_who_dies_before_it_tells_of_a_failure_finds_it_in_the_attempts(
    job: Stage, script: tuple[Exception, ...], code: str
) -> None:
    with pytest.raises(type(script[-1])):
        job.run(*script)
    job.run()
    found = job_row(job.parts, job.job_id)
    assert (found.state, found.error_code) == ("failed", code)
    assert job.end()[0] == "failed"


def test_all_rejected_is_said_with_the_last_ones_reason(job: Stage) -> None:
    job.run(*[verdict(REJECTED, "forgetting")] * 3)
    state, _, reason = job.end()
    assert state == "failed"
    assert reason.startswith("None of 3 attempts passed the gate. The last: ")
    assert reason.endswith("forgetting.")
    assert list(job.folder.iterdir()) == []


@pytest.mark.parametrize("error", [errors.Diverged("words"), RuntimeError("words")])
def test_an_attempt_that_fails_does_not_lose_the_candidate_of_before(job: Stage, error: Exception) -> None:
    job.run(verdict(REVIEW, "utility"), verdict(REJECTED, "forgetting"), error)
    assert job.verdicts == ["needs_review", "rejected", None]
    assert job.end()[2].startswith("attempt 1 of 3")


def test_an_error_that_no_attempt_mends_ends_the_attempts(job: Stage) -> None:
    job.run(verdict(REVIEW, "utility"), RuntimeError("words"))
    assert [number for number, _ in job.made] == [1, 2]
    assert job.end()[2].startswith("attempt 1 of 2")


def test_an_error_with_no_candidate_to_show_is_raised(job: Stage) -> None:
    with pytest.raises(RuntimeError, match="words"):
        job.run(verdict(REJECTED, "forgetting"), RuntimeError("words"))


def killed(job: Stage, at: int, *script: Scripted) -> None:
    """The execution dies in attempt `at`, and its folders with it."""
    with pytest.raises(errors.Cancelled):
        job.run(*script[: at - 1], errors.Cancelled("killed"))
    for one in job.folder.iterdir():
        one.rmdir()
    job.made.clear()


@pytest.mark.parametrize(
    ("again", "end", "head"), [(verdict(REVIEW, "utility"), "needs_review", 1), (verdict(ACCEPTED), "completed", 2)]
)
def test_a_candidate_lost_in_a_crash_is_made_again_if_it_is_the_one_to_show(
    job: Stage, again: Verdict, end: str, head: int
) -> None:
    script = (verdict(REVIEW, "utility"), verdict(REJECTED, "forgetting"), verdict(REJECTED, "forgetting"))
    killed(job, 3, *script)
    job.run(again, *script[1:])
    assert [number for number, _ in job.made] == [3, 1]
    assert job.made[1] == (1, GIVEN.learning_rate)  # the parameters it had
    assert job.end()[:2] == (end, head)
    assert job_row(job.parts, job.job_id).executions == 2


def test_a_lost_candidate_that_turns_out_worse_gives_way(job: Stage) -> None:
    script = (verdict(REVIEW, "utility"), verdict(REVIEW, "utility", "forgetting"), verdict(REJECTED, "forgetting"))
    killed(job, 3, *script)
    job.run(verdict(REJECTED, "forgetting"), *script[1:])
    assert [number for number, _ in job.made] == [3, 1, 2]
    assert job.end()[2].startswith("attempt 2 of 3")


def test_a_lost_candidate_that_cannot_be_made_again_fails_the_job(job: Stage) -> None:
    script = (verdict(REVIEW, "utility"), verdict(REJECTED, "forgetting"), verdict(REJECTED, "forgetting"))
    killed(job, 3, *script)
    with pytest.raises(RuntimeError, match="words"):
        job.run(RuntimeError("words"), *script[1:])


def test_a_lost_candidate_is_not_made_again_once_a_later_one_passes(job: Stage) -> None:
    killed(job, 2, verdict(REVIEW, "utility"))
    job.run(verdict(REVIEW, "utility"), verdict(ACCEPTED))
    assert [number for number, _ in job.made] == [2]
    assert job.end()[0] == "completed"


def row(number: int, kind: VerdictKind | None, failing: int = 0) -> AttemptRow:
    checks = [{"outcome": "review"}] * failing
    return AttemptRow(number=number, verdict=kind and str(kind), reason="", report={"checks": checks} if kind else None)


RULES: list[tuple[Callable[..., AttemptRow | None], list[AttemptRow], int | None]] = [
    (for_review, [row(1, REJECTED), row(2, None)], None),
    (for_review, [row(1, REVIEW, 2), row(2, REVIEW, 1), row(3, REVIEW, 1)], 2),
    (decisive, [row(1, REVIEW, 1), row(2, REJECTED), row(3, ACCEPTED)], 3),
    (decisive, [row(1, REVIEW, 1), row(2, REJECTED), row(3, None)], 1),
    (decisive, [row(1, REJECTED), row(2, REJECTED), row(3, None)], 2),
    (decisive, [row(1, None)], None),
]


@pytest.mark.parametrize(("rule", "rows", "number"), RULES)
def test_which_attempt_speaks_for_the_job(
    rule: Callable[..., AttemptRow | None], rows: list[AttemptRow], number: int | None
) -> None:
    found = rule(rows)
    assert (found and found.number) == number
