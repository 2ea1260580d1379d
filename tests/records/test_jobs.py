"""One model, one writer: claims, leases, fencing tokens, and what a crash leaves."""

import pytest
import sqlalchemy as sa

from records import audit, dispatch, jobs, versions
from records.database import Database
from records.moves import move
from records.rows import AuditEntryRow, JobRow, ModelRow, RequestRow, VersionRow
from records.states import Outcome, Stage, VersionState
from tests.make import digest, make_job, make_model

FILES = versions.Files(digest("a"), 100)


@pytest.fixture
def model_id(database: Database) -> str:
    with database.transaction() as session:
        model = make_model(session)
        make_job(session, model)
        make_job(session, model)
    return model.id


def claim(database: Database, model_id: str, owner: str = "one", lease: float = 60.0) -> jobs.Claim | None:
    with database.transaction() as session:
        return jobs.claim(session, model_id, owner, lease, max_executions=3)


def expire(database: Database, model_id: str) -> None:
    with database.transaction() as session:
        session.execute(sa.update(ModelRow).where(ModelRow.id == model_id).values(lease_expires_at=1.0))


def tags(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(sa.select(AuditEntryRow.tag).order_by(AuditEntryRow.position)))


def test_jobs_of_one_model_run_one_after_another_in_order(database: Database, model_id: str) -> None:
    first = claim(database, model_id)
    assert first is not None
    assert claim(database, model_id, "two") is None
    with database.transaction() as session:
        jobs.finish(session, first, Outcome.NOT_MEMORISED)
    second = claim(database, model_id, "two")
    assert second is not None
    assert second.fence > first.fence
    with database.reading() as session:
        positions = [session.get_one(JobRow, held.job_id).position for held in (first, second)]
    assert positions == [1, 2]


def test_nothing_to_claim_leaves_the_lease_free(database: Database) -> None:
    with database.transaction() as session:
        model = make_model(session)
    assert claim(database, model.id) is None
    with database.transaction() as session:
        make_job(session, session.get_one(ModelRow, model.id))
    assert claim(database, model.id) is not None


def test_publishing_moves_the_head_and_completes_everything(database: Database, model_id: str) -> None:
    held = claim(database, model_id)
    assert held is not None
    with database.transaction() as session:
        versions.publish(session, held, versions.next_number(session, model_id), FILES)
    with database.reading() as session:
        model = session.get_one(ModelRow, model_id)
        numbered = {v.number: v for v in session.scalars(sa.select(VersionRow).where(VersionRow.model_id == model_id))}
        request = jobs.requests_of(session, held.job_id)[0]
        job = session.get_one(JobRow, held.job_id)
    assert (model.head, model.lease_owner, model.lease_expires_at) == (2, None, 0.0)
    assert (numbered[1].state, numbered[2].state, numbered[2].parent) == ("superseded", "published", 1)
    assert (request.state, request.outcome, request.version_number) == ("completed", "forgotten", 2)
    assert (job.state, job.progress) == ("succeeded", 1.0)


def test_the_first_version_teaches_until_it_is_quarantined(database: Database, model_id: str) -> None:
    held = claim(database, model_id)
    assert held is not None
    with database.transaction() as session:
        versions.publish(session, held, 2, FILES)
        first = versions.oldest_kept(session, model_id)
        assert first is not None
        assert first.number == 1
        move(session, first, VersionState.QUARANTINED, "an operator")
        left = versions.oldest_kept(session, model_id)
        assert left is not None
        assert left.number == 2


def test_a_worker_that_lost_its_lease_can_change_nothing(database: Database, model_id: str) -> None:
    asleep = claim(database, model_id)
    assert asleep is not None
    expire(database, model_id)
    awake = claim(database, model_id, "two")
    assert awake is not None
    assert awake.job_id == asleep.job_id
    before = tags(database)
    for act in (
        lambda s: jobs.renew(s, asleep, 60.0),
        lambda s: jobs.set_progress(s, asleep, Stage.UNLEARN, 1, 0.5),
        lambda s: versions.publish(s, asleep, 2, FILES),
        lambda s: versions.keep_candidate(s, asleep, 2, FILES, "words"),
        lambda s: jobs.finish(s, asleep, Outcome.NOT_MEMORISED),
        lambda s: jobs.fail(s, asleep, "x", "words"),
        lambda s: jobs.cancelled(s, asleep),
        lambda s: jobs.hand_back(s, asleep, "x", counts=True),
    ):
        with pytest.raises(jobs.LeaseLost), database.transaction() as session:
            act(session)
    assert tags(database) == before
    with database.transaction() as session:
        versions.publish(session, awake, 2, FILES)
    with pytest.raises(jobs.LeaseLost), database.transaction() as session:
        versions.publish(session, awake, 3, FILES)


def test_a_crashed_job_is_resumed_and_after_too_many_crashes_fails_in_words(database: Database, model_id: str) -> None:
    for _ in range(3):
        assert claim(database, model_id) is not None
        expire(database, model_id)
    following = claim(database, model_id)
    assert following is not None
    with database.reading() as session:
        first, second = session.scalars(sa.select(JobRow).where(JobRow.model_id == model_id).order_by(JobRow.position))
        request = jobs.requests_of(session, first.id)[0]
    assert (first.state, first.error_code) == ("failed", "poison")
    assert "3 starts of this job came to no end" in (request.reason or "")
    assert following.job_id == second.id
    assert tags(database).count("job.resumed") == 2


def test_a_graceful_stop_does_not_count_as_a_crash(database: Database, model_id: str) -> None:
    for _ in range(5):
        held = claim(database, model_id)
        assert held is not None
        with database.transaction() as session:
            jobs.hand_back(session, held, "shutdown", counts=False)
    with database.reading() as session:
        assert session.get_one(JobRow, held.job_id).executions == 0


def test_cancel_of_a_queued_job_is_immediate_and_of_a_running_one_is_asked(database: Database, model_id: str) -> None:
    held = claim(database, model_id)
    assert held is not None
    with database.transaction() as session:
        running, queued = session.scalars(
            sa.select(JobRow).where(JobRow.model_id == model_id).order_by(JobRow.position)
        )
        jobs.cancel(session, queued, "test")
        jobs.cancel(session, running, "test")
    with database.transaction() as session:
        assert jobs.renew(session, held, 60.0) is True
    with pytest.raises(versions.CancelWon), database.transaction() as session:
        versions.publish(session, held, 2, FILES)
    with database.transaction() as session:
        jobs.cancelled(session, held)
    with database.reading() as session:
        states = {row.id: row.state for row in session.scalars(sa.select(JobRow))}
        requests = {row.state for row in session.scalars(sa.select(RequestRow))}
        assert session.get_one(ModelRow, model_id).head == 1
    assert set(states.values()) == {"cancelled"} == requests


def test_a_candidate_waits_for_a_person(database: Database, model_id: str) -> None:
    held = claim(database, model_id)
    assert held is not None
    with database.transaction() as session:
        versions.keep_candidate(session, held, 2, FILES, "Too few items to decide.")
    with database.reading() as session:
        request = jobs.requests_of(session, held.job_id)[0]
        assert session.get_one(ModelRow, model_id).head == 1
    assert (request.state, request.reason) == ("needs_review", "Too few items to decide.")
    with database.transaction() as session:
        versions.approve(session, session.get_one(RequestRow, request.id), "key:1", FILES)
    with database.reading() as session:
        assert session.get_one(ModelRow, model_id).head == 2
        assert session.get_one(RequestRow, request.id).outcome == "forgotten"


def test_a_stale_candidate_cannot_be_approved_and_a_refused_one_is_rejected(database: Database, model_id: str) -> None:
    held = claim(database, model_id)
    assert held is not None
    with database.transaction() as session:
        versions.keep_candidate(session, held, 2, FILES, "words")
    following = claim(database, model_id)
    assert following is not None
    with database.transaction() as session:
        versions.publish(session, following, 3, FILES)
    with database.reading() as session:
        request_id = jobs.requests_of(session, held.job_id)[0].id
    with pytest.raises(versions.HeadMoved), database.transaction() as session:
        versions.approve(session, session.get_one(RequestRow, request_id), "key:1", FILES)
    with database.transaction() as session:
        versions.refuse(session, session.get_one(RequestRow, request_id), "key:1", "stale")
    with database.reading() as session:
        candidate = versions.version_of(session, model_id, 2)
        assert candidate is not None
        assert candidate.state == "rejected"
        assert session.get_one(RequestRow, request_id).state == "failed"
        assert session.get_one(ModelRow, model_id).head == 3


def test_an_approval_while_a_job_runs_makes_that_job_start_over(database: Database, model_id: str) -> None:
    held = claim(database, model_id)
    assert held is not None
    with database.transaction() as session:
        versions.keep_candidate(session, held, 2, FILES, "words")
    following = claim(database, model_id)
    assert following is not None
    with database.transaction() as session:
        request = jobs.requests_of(session, held.job_id)[0]
        versions.approve(session, request, "key:1", FILES)
    with pytest.raises(versions.HeadMoved), database.transaction() as session:
        versions.publish(session, following, 3, FILES)
    with database.transaction() as session:
        jobs.hand_back(session, following, "head_moved", counts=False)
    again = claim(database, model_id)
    assert again is not None
    assert again.base_version == 2


def test_a_restarted_owner_frees_its_own_leases_only(database: Database, model_id: str) -> None:
    claim(database, model_id, "embedded")
    with database.transaction() as session:
        assert jobs.release_owned(session, "somebody else") == 0
        assert dispatch.claimable_models(session) == []
        assert jobs.release_owned(session, "embedded") == 1
        assert dispatch.claimable_models(session) == [model_id]


def test_the_whole_story_is_in_the_log(database: Database, model_id: str, keys) -> None:
    held = claim(database, model_id)
    assert held is not None
    with database.transaction() as session:
        versions.publish(session, held, 2, FILES)
    told = [tag for tag in tags(database) if tag.startswith(("request.", "job.", "version."))]
    assert told[-5:] == [
        "version.candidate",
        "version.published",
        "version.superseded",
        "job.succeeded",
        "request.completed",
    ]
    with database.reading() as session:
        assert audit.check_log(session, keys.public().log_verifier_key) == len(tags(database))
