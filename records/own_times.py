"""What earlier requests measured when they had just been forgotten: small rises, each from one version to the next, add
up unseen, unless they are held against that time.

The job after the one that forgot a request asks its rows again, of the version that forgot it (`before` in its report).
So the first report in which a request is asked again has its own time's numbers, of the same rows and asked alike. Only
of requests that came in dozens at once the first may be a later one: whoever is not among the newest is asked by turns.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records.report import EarlierRequest, OwnTime
from records.rows import AttemptRow, JobRow


def own_times(session: Session, model_id: str, but_job: str) -> dict[str, OwnTime]:
    """Of every request that was ever asked again, by its id; `but_job` is the one that is running."""
    found: dict[str, OwnTime] = {}
    for base_version, one in _asked_again(session, model_id, but_job):
        own = OwnTime(version=base_version, n_items=one.n_items, numbers=one.before)
        found.setdefault(one.request_id, own)
    return found


def _asked_again(session: Session, model_id: str, but_job: str) -> Iterator[tuple[int, EarlierRequest]]:
    """(the base version, what was asked of it), the oldest job first."""
    query = (
        sa.select(JobRow.base_version, AttemptRow.report["earlier"])
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(JobRow.model_id == model_id, JobRow.id != but_job, JobRow.base_version.is_not(None))
        .order_by(JobRow.position, AttemptRow.number)
    )
    for base_version, earlier in session.execute(query):
        yield from ((base_version, EarlierRequest.model_validate(one)) for one in earlier or ())
