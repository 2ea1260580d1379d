"""One job from claim to verdict: THE PAGE TO READ.

    load       the newest published version, digests verified; the plan; what the base version knows, and beside it the
               first version and the reference
    unlearn    from the same base every time, with the next parameters in the declared order; now and then everybody
               anew from the first version
    evaluate   the candidate as it was saved, asked the same questions; attacked, unless it is rejected already
    gate       accepted: publish. needs_review, rejected: the next attempt, where one can mend what was found
    in the end the candidate that fails the fewest criteria is kept for a person, if the gate asked for one

No database session is open while anything is computed. The job's rows are written in a few short transactions, each of
which checks that the lease is still ours. The rows of the attempts say how to go on after a crash.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy.orm import Session

from records import counters, jobs, orders, tracing, versions
from records.attempts import for_review
from records.counters import Event
from records.jobs import Claim
from records.manifest import Manifest
from records.orders import Order
from records.params import Attempt
from records.parts import Parts
from records.report import Report, Verdict, VerdictKind
from records.rows import AttemptRow
from records.scratch import scratch_folder, scratch_root
from records.states import Outcome, Stage
from records.store import BlobMissing
from records.versions import Files
from workers.attacks.in_job import Battery
from workers.attempts import (
    MOST_ATTEMPTS,
    WORTH_ANOTHER,
    all_spent,
    failed_reason,
    failure_at_the_end,
    for_a_person,
    judged_reason,
    misses_of,
    next_attempt,
    of_consolidation,
    only_a_person_can,
    sentences,
    to_make,
)
from workers.checkpoint_folders import checkpoint_folder
from workers.failures import NOT_THE_ATTEMPTS_FAULT, explain
from workers.gate import decide, nothing_to_forget
from workers.load import lay_out, release_memory, use_threads
from workers.loop import Checkpoint, UnlearnSummary
from workers.plan import Plan, make_plan
from workers.progress import share_of_job, until
from workers.publish import Candidate, store_candidate
from workers.ranks import Team, team_of
from workers.report import Measurement, bare_report, build_report, measure, measure_reference, measure_staying
from workers.stages import Stages
from workers.together import Lesson, LlmIn, Measure, asked, attacked, first_look, unlearned


class Voice(Protocol):
    """Says how far the job is; raises Cancelled when it was asked to stop."""

    def progress(self, stage: str, attempt: int, share: float) -> None: ...


def run(held: Claim, parts: Parts, voice: Voice) -> None:
    """Bring the job to an end that is written in the database, or raise what stopped it."""
    use_threads(parts.settings.worker.worker_threads)
    settings = parts.settings.worker
    half_time = time.monotonic() + settings.job_timeout_seconds / 2
    with (
        scratch_folder(scratch_root(parts.settings), f"{held.job_id}.{held.fence}") as folder,
        team_of(settings.worker_processes, folder, settings, held) as team,
    ):
        job = _Job(held, parts, voice, folder, Stages(held), team, half_time)
        with job.stages.timed("load", 0):
            ready = job.load()
        nothing = nothing_to_forget(bare_report(ready.before, ready.reference), ready.plan.policy)
        if nothing is not None:
            job.finish_not_memorised(ready, nothing)
        else:
            job.attempt_until_done(ready)


@dataclass(frozen=True)
class _Ready:
    """What every attempt starts from."""

    order: Order
    base: Manifest
    plan: Plan
    before: Measurement
    reference: Measurement | None
    first: Measurement | None
    battery: Battery

    def anew(self, number: int) -> bool:
        """Whether this attempt forgets everybody from the first version's weights, in place of one from the head's."""
        return number == 1 and self.plan.anew

    def missed_anew(self, number: int) -> bool:
        """Whether it was time for that, and it came to nothing."""
        return self.plan.missed_anew or (self.plan.anew and not self.anew(number))

    def report(self, after: Measurement, number: int, attempt: Attempt, summary: UnlearnSummary) -> Report:
        return build_report(
            self.before,
            after,
            method=self.plan.method,
            parameters=attempt.parameters.model_dump(mode="json"),
            seeds={"plan": self.plan.parameters.seed, "training": attempt.parameters.seed},
            seconds={"unlearn": summary.seconds},
            training={name: value for name, value in asdict(summary).items() if name != "notes"}
            | {"anew": self.anew(number), "missed_anew": self.missed_anew(number)},
            notes=(*self.plan.notes, *self._notes_of_first(number, attempt), *summary.notes),
            reference=self.reference,
            first=self.first,
            own_times=self.order.own_times,
        )

    def _notes_of_first(self, number: int, attempt: Attempt) -> tuple[str, ...]:
        first = f"version {self.order.first_number}, the first whose weights are kept"
        notes = []
        if attempt.parameters.teacher == "original":
            notes.append(f"the losses compared with {first}")
        if self.anew(number):
            notes.append(f"consolidated: everybody's rows were forgotten anew from {first}")
        return tuple(notes)

    def report_of_base(self) -> Report:
        """The base version against itself: what there was not to forget, with intervals."""
        return build_report(
            self.before,
            self.before,
            method=self.plan.method,
            parameters=self.plan.parameters.model_dump(mode="json"),
            seeds={"plan": self.plan.parameters.seed},
            notes=self.plan.notes,
            reference=self.reference,
            own_times=self.order.own_times,
        )


@dataclass(frozen=True)
class _Job:
    held: Claim
    parts: Parts
    voice: Voice
    folder: Path
    stages: Stages
    team: Team
    half_time: float = math.inf  # on the monotonic clock; what may be left out ends then

    def load(self) -> _Ready:
        self._say(Stage.LOAD, 0, 0.0)
        order, plan = self._read_order()
        has_first = order.first_manifest != order.base_manifest
        base = lay_out(self.parts.store, order.base_manifest, self.folder / "base")
        # All before the first is measured, which may take hours: an old version may be purged meanwhile.
        if has_first:
            lay_out(self.parts.store, order.first_manifest, self.folder / "first")
        if order.reference_manifest is not None:
            lay_out(self.parts.store, order.reference_manifest, self.folder / "reference")
        plan, before = self.team.call(first_look, self._llm_in("base"), plan, say=self._loading(0))
        first = self._ask(1, measure_staying, plan, "first") if has_first else None
        reference = self._ask(2, measure_reference, plan, "reference") if order.reference_manifest is not None else None
        kept = plan.measuring.kept
        battery = Battery(self._llm_in("base").llm, self.folder / "base", plan.probes, plan.retain, kept)
        return _Ready(order, base, plan, before, reference, first, battery)

    def _ask(self, part: int, measurement: Measure, plan: Plan, name: str) -> Measurement:
        return self.team.call(asked, measurement, self._llm_in(name), plan, say=self._loading(part))[0]

    def _loading(self, part: int) -> Callable[[float], None]:
        """Loading ends with three measurements."""
        telling = self._teller(Stage.LOAD, 0)
        return lambda share: telling((part + share) / 3)

    def _read_order(self, more_tries: int = 2) -> tuple[Order, Plan]:
        with self.parts.database.reading() as session:
            order = orders.read_order(session, self.held)
        try:
            return order, make_plan(order, self.parts.vault)
        except BlobMissing:  # a dataset was replaced between the reading of its row and of its file
            if not more_tries:
                raise
            return self._read_order(more_tries - 1)

    def attempt_until_done(self, ready: _Ready) -> None:
        """Attempt after attempt, behind those recorded before a crash, until one ends the job or they are spent."""
        rows, waiting = list(ready.order.attempts), dict[int, Candidate]()
        while (number := to_make(rows, waiting)) is not None:
            tried = misses_of(rows[: number - 1], ready.plan.policy)
            attempt = next_attempt(ready.plan.parameters, tried)
            try:
                candidate = self._attempt(ready, number, attempt)
                row = self._judged_row(ready, candidate, attempt)
                if self._ends(ready, candidate, row):
                    return
                waiting[number] = candidate
            except Exception as error:  # noqa: BLE001 - recorded with the attempt, and raised again unless mendable
                others = [one for one in rows if one.number != number]
                row = self._failed(ready, number, attempt, error, kept=for_review(others) is not None)
            rows[number - 1 : number] = [row]
            if number == len(rows):
                self._keep_best(rows, waiting)
            release_memory()
        self._end_spent(ready, rows, waiting)

    def _keep_best(self, rows: list[AttemptRow], waiting: dict[int, Candidate]) -> None:
        """Folders of candidates are as large as the version: only that of the one a person would see stays."""
        best = for_review(rows)
        for number in [one for one in waiting if best is None or one != best.number]:
            shutil.rmtree(waiting.pop(number).folder, ignore_errors=True)

    def _end_spent(self, ready: _Ready, rows: list[AttemptRow], waiting: dict[int, Candidate]) -> None:
        """No attempt passed: a person sees the one that fails the fewest criteria, if the gate asked for a person."""
        best = for_review(rows)
        if best is None:
            with self.parts.database.transaction() as session:
                if (failure := failure_at_the_end(rows)) is not None:  # died before it could say so
                    jobs.fail(session, self.held, failure.code, failure.sentence)
                else:
                    jobs.reject(session, self.held, all_spent(rows))
            return
        candidate = waiting[best.number]
        self._show(ready, candidate, for_a_person(candidate.verdict, best.number, len(rows)))

    def finish_not_memorised(self, ready: _Ready, verdict: Verdict) -> None:
        """Nothing measurable to remove: no new version, and the numbers that say so."""
        attempt = next_attempt(ready.plan.parameters, [])
        report = ready.report_of_base().model_copy(update={"checks": verdict.checks})
        row = self._row(ready, 1, attempt, sentences(verdict.reasons), verdict, report)
        with self.parts.database.transaction() as session:
            self._record(session, row)
            jobs.finish(session, self.held, Outcome.NOT_MEMORISED)

    def _attempt(self, ready: _Ready, number: int, attempt: Attempt) -> Candidate:
        """Unlearn, save, load what was saved, ask again, and judge."""
        folder = f"candidate-{number}"
        with self.stages.timed("unlearn", number):
            summary, tokens = self._unlearn(ready, number, attempt, folder)
        release_memory()
        self._say(Stage.EVALUATE, number, 0.0)
        telling = self._teller(Stage.EVALUATE, number)
        with self.stages.timed("evaluate", number):
            saved, half = self._llm_in(folder), lambda share: telling(share / 2)
            after, tokenizer = self.team.call(asked, measure, saved, ready.plan, say=half)
            release_memory()
            report = ready.report(after, number, attempt, summary)
        if decide(report, ready.plan.policy, number).kind is not VerdictKind.REJECTED:
            asking = (ready.battery, report, saved, tokenizer, attempt.parameters)
            with self.stages.timed("attack", number):
                report = self.team.call(attacked, *asking, say=lambda share: telling((1 + share) / 2))
        verdict = decide(report, ready.plan.policy, number)
        report = report.model_copy(update={"checks": verdict.checks})
        return Candidate(self.folder / folder, number, attempt.parameters, report, verdict, tokens, ready.anew(number))

    def _unlearn(self, ready: _Ready, number: int, attempt: Attempt, folder: str) -> tuple[UnlearnSummary, int]:
        """The summary, and how many tokens the forget set has."""
        self._say(Stage.UNLEARN, number, 0.0)
        anew = ready.anew(number)
        lesson = Lesson(
            plan=ready.plan,
            parameters=attempt.parameters,
            control_level=ready.before.control_level(),
            student=self._llm_in("first" if anew else "base"),
            teacher=None if anew else self._teacher(ready, attempt),
            base=self.folder / "base",
            folder=self.folder / folder,
            checkpoint=self._checkpoint(ready, number),
            anew=anew,
        )
        telling = self._teller(Stage.UNLEARN, number)
        return self.team.call(unlearned, lesson, say=until(self.half_time, telling) if anew else telling)

    def _teacher(self, ready: _Ready, attempt: Attempt) -> LlmIn | None:
        """The first version, when the losses compare with it; None if that is the base, or not wished for."""
        order = ready.order
        if attempt.parameters.teacher == "previous" or order.first_manifest == order.base_manifest:
            return None
        return self._llm_in("first")

    def _checkpoint(self, ready: _Ready, number: int) -> Checkpoint:
        settings = self.parts.settings
        folder = checkpoint_folder(scratch_root(settings), self.held.job_id)
        belongs_to: dict[str, str | int] = {
            "job": self.held.job_id,
            "attempt": number,
            "base": ready.order.base_manifest,
            "first": ready.order.first_manifest,  # it teaches, or is what an attempt anew starts from
            "anew": ready.anew(number),
        }
        return Checkpoint(folder, belongs_to, settings.worker.checkpoint_seconds)

    def _ends(self, ready: _Ready, candidate: Candidate, row: AttemptRow) -> bool:
        """Record the verdict and act on it; whether the job has ended with it."""
        verdict = candidate.verdict
        if verdict.kind is VerdictKind.ACCEPTED:
            self._publish(ready, candidate, row)
        elif only_a_person_can(verdict):
            self._show(ready, candidate, sentences(verdict.reasons), row)
        else:
            with self.parts.database.transaction() as session:
                self._record(session, row)
            return False
        return True

    def _publish(self, ready: _Ready, candidate: Candidate, row: AttemptRow) -> None:
        number, files = self._stored(ready, candidate)
        with self._making_a_version() as session:
            self._record(session, row)
            versions.publish(session, self.held, number, files)

    def _show(self, ready: _Ready, candidate: Candidate, words: str, row: AttemptRow | None = None) -> None:
        """Keep the candidate for a person; `row` is its attempt's, where that is not recorded yet."""
        number, files = self._stored(ready, candidate)
        with self._making_a_version() as session:
            self._record(session, row)
            versions.keep_candidate(session, self.held, number, files, words)

    def _stored(self, ready: _Ready, candidate: Candidate) -> tuple[int, Files]:
        self._say(Stage.PUBLISH, candidate.attempt, 0.0)
        with self.stages.timed("store", candidate.attempt):
            return store_candidate(self.parts, ready.order, ready.base, candidate)

    @contextmanager
    def _making_a_version(self) -> Iterator[Session]:
        """The transaction that makes files a version; one that comes too late is counted."""
        try:
            with tracing.span("publish"), self.parts.database.transaction() as session:
                yield session
        except (jobs.LeaseLost, versions.HeadMoved):
            counters.count(self.parts.database, Event.STALE_PUBLISH)
            raise

    def _record(self, session: Session, row: AttemptRow | None) -> None:
        """What has been done since the last time: an attempt, unless it is recorded, and how long the stages took."""
        if row is not None:
            jobs.add_attempt(session, self.held, row)
        jobs.add_stages(session, self.held, self.stages.take())

    def _failed(self, ready: _Ready, number: int, attempt: Attempt, error: Exception, *, kept: bool) -> AttemptRow:
        """Record an attempt that ended in an error. The error is raised again unless another attempt can mend it, or a
        candidate of before can still be shown to a person (`kept`).
        """
        failure = explain(error)
        if failure.code in NOT_THE_ATTEMPTS_FAULT:
            raise error
        failure = of_consolidation(failure) if ready.anew(number) else failure
        shutil.rmtree(self.folder / f"candidate-{number}", ignore_errors=True)
        row = self._row(ready, number, attempt, failed_reason(failure), None, None)
        with self.parts.database.transaction() as session:
            self._record(session, row)
        if not kept and (failure.code not in WORTH_ANOTHER or number == MOST_ATTEMPTS):
            raise error
        return row

    def _judged_row(self, ready: _Ready, candidate: Candidate, attempt: Attempt) -> AttemptRow:
        words = judged_reason(attempt, candidate.verdict)
        return self._row(ready, candidate.attempt, attempt, words, candidate.verdict, candidate.report)

    def _row(
        self, ready: _Ready, number: int, attempt: Attempt, reason: str, verdict: Verdict | None, report: Report | None
    ) -> AttemptRow:
        return AttemptRow(
            job_id=self.held.job_id,
            number=number,
            method=ready.plan.method,
            parameters=attempt.parameters.model_dump(mode="json"),
            verdict=str(verdict.kind) if verdict else None,
            reason=reason,
            report=report.model_dump(mode="json") if report else None,
        )

    def _llm_in(self, name: str) -> LlmIn:
        return LlmIn(self.folder / name, self.parts.settings.worker.device)

    def _teller(self, stage: Stage, attempt: int) -> Callable[[float], None]:
        return lambda share: self._say(stage, attempt, share)

    def _say(self, stage: Stage, attempt: int, share: float) -> None:
        self.voice.progress(str(stage), attempt, share_of_job(stage, attempt, share))
