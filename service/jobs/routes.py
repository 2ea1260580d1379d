"""/v1/jobs"""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from records.states import JobState
from service.deps import PartsDep, RequestsReader
from service.jobs import actions
from service.jobs.schemas import JobDetail, JobOut
from service.json_route import JsonRoute
from service.pages import JobCursor, ListOut
from service.problems import responses
from service.shapes import Id, Name

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JsonRoute)


@router.get("", operation_id="listJobs", responses=responses(403, 404))
def index(
    cursor: JobCursor,
    parts: PartsDep,
    caller: RequestsReader,
    model: Annotated[Name | None, Query(description="Only jobs of this model.")] = None,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
) -> ListOut[JobOut]:
    """The tenant's jobs, newest first."""
    with parts.database.reading() as session:
        page = actions.listed(session, caller, model, state, cursor.after, cursor.limit)
    return cursor.page(page.data, page.next_cursor)


@router.get("/{job_id}", operation_id="getJob", responses=responses(403, 404))
def show(job_id: Annotated[Id, Path()], parts: PartsDep, caller: RequestsReader) -> JobDetail:
    """One job with its attempts: what each ran, and what the gate said."""
    with parts.database.reading() as session:
        return actions.show(session, caller, job_id)
