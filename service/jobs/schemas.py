"""Jobs on the wire."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field


class AttemptOut(BaseModel):
    number: int
    method: str
    parameters: dict[str, Any]
    verdict: str | None = Field(description="Null when the attempt failed before the gate.")
    reason: str
    has_report: bool
    finished_at: datetime


class JobError(BaseModel):
    code: str
    detail: str | None


class JobOut(BaseModel):
    object: Literal["job"] = "job"
    id: str
    model: str
    position: int = Field(description="The how-manieth job of its model it is.")
    ahead: int | None = Field(description="Jobs of the same model that run before it; null once it has ended.")
    state: str
    stage: str | None
    attempt: int
    progress: float = Field(description="Share of the whole job, 0 to 1.")
    executions: int = Field(description="Times it was started, crashes included.")
    base_version: int | None
    requests: list[str]
    error: JobError | None
    cancel_requested_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


class JobDetail(JobOut):
    attempts: list[AttemptOut]
