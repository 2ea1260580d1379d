"""/v1/jobs"""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from records.states import JobState
from service.deps import ID, PartsDep, RequestsReader
from service.jobs import actions
from service.jobs.schemas import JobDetail, JobOut
from service.json_route import JsonRoute
from service.models.schemas import NAME
from service.pages import CursorDep, ListOut
from service.problems import responses

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JsonRoute)


@router.get("", operation_id="listJobs", responses=responses(403, 404))
def index(
    cursor: CursorDep,
    parts: PartsDep,
    caller: RequestsReader,
    model: Annotated[str | None, Query(pattern=NAME, description="Only jobs of this model.")] = None,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
) -> ListOut[JobOut]:
    """The tenant's jobs, newest first."""
    with parts.database.reading() as session:
        page = actions.listed(session, caller, model, state, cursor.after, cursor.limit)
    return cursor.page(page.data, page.next_cursor)


@router.get("/{job_id}", operation_id="getJob", responses=responses(403, 404))
def show(job_id: Annotated[str, Path(pattern=ID)], parts: PartsDep, caller: RequestsReader) -> JobDetail:
    """One job with its attempts: what each ran, and what the gate said."""
    with parts.database.reading() as session:
        return actions.show(session, caller, job_id)
