"""Which model's work comes next, of all that nobody holds.

Within a model jobs keep their order, so a model is as urgent as the most urgent of its waiting jobs. A worker may stay
with the model whose weights it has at hand; the supervisor says for how long.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records import jobs
from records.database import database_seconds
from records.jobs import Claim
from records.rows import JobRow, ModelRow
from records.states import JobState


def claim_next(
    session: Session,
    owner: str,
    lease_seconds: float,
    max_executions: int,
    serves: tuple[str, ...],
    prefer: str | None = None,
) -> Claim | None:
    """Claim the next job of the model `prefer` if it waits, else of the most urgent one; None when nothing waits.

    A model whose waiting jobs all came to an end without being started is passed over.
    """
    passed: list[str] = []
    while (model_id := _most_urgent(session, serves, prefer, passed)) is not None:
        held = jobs.claim(session, model_id, owner, lease_seconds, max_executions)
        if held is not None:
            return held
        passed.append(model_id)
    return None


def claimable(session: Session) -> list[tuple[str, str]]:
    """(model id, what its next job needs) of every model with work that nobody holds, the most urgent first."""
    query, urgency = _waiting(JobRow.needs)
    return [(model_id, needs) for model_id, needs in session.execute(query.order_by(*urgency))]


def claimable_models(session: Session) -> list[str]:
    return [model_id for model_id, _ in claimable(session)]


def _most_urgent(session: Session, serves: tuple[str, ...], prefer: str | None, passed: list[str]) -> str | None:
    """Locked on Postgres until the transaction ends, so that two workers never wait for each other's claim."""
    query, urgency = _waiting()
    query = query.where(JobRow.needs.in_(serves), ModelRow.id.not_in(passed))
    if prefer is not None:
        urgency = (sa.case((ModelRow.id == prefer, 0), else_=1), *urgency)
    query = query.order_by(*urgency).limit(1).with_for_update(of=ModelRow, skip_locked=True)
    found: str | None = session.scalar(query)
    return found


def _waiting(*columns: Any) -> tuple[sa.Select[Any], tuple[Any, ...]]:
    """Models that have unfinished jobs and no holder, joined with the next job of each; and the order of urgency."""
    line = (
        sa.select(
            JobRow.model_id,
            sa.func.min(JobRow.position).label("position"),
            sa.func.min(sa.func.coalesce(JobRow.run_by, JobRow.created_at)).label("run_by"),
        )
        .where(JobRow.state.in_([JobState.QUEUED, JobState.RUNNING]))
        .group_by(JobRow.model_id)
        .subquery()
    )
    query = (
        sa.select(ModelRow.id, *columns)
        .join(line, line.c.model_id == ModelRow.id)
        .join(JobRow, sa.and_(JobRow.model_id == ModelRow.id, JobRow.position == line.c.position))
        .where(ModelRow.lease_expires_at < database_seconds(), ModelRow.head.is_not(None))
    )
    return query, (line.c.run_by, ModelRow.id)
