"""Models on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]

_STRICT = ConfigDict(extra="forbid", frozen=True)


class SourceIn(BaseModel):
    """Where the weights are: exactly one of `path` and `repo_id`."""

    model_config = _STRICT

    path: str | None = Field(default=None, min_length=1, max_length=4096, description="A folder under an import root.")
    repo_id: str | None = Field(
        default=None, max_length=200, description="A Hugging Face repository: not available yet."
    )
    revision: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.path is None) == (self.repo_id is None):
            raise ValueError("give exactly one of path and repo_id")
        return self


class DefaultsIn(BaseModel):
    """What a request to this model gets where it says nothing."""

    model_config = _STRICT

    method: str | None = None
    parameters: dict[str, Any] = {}
    policy: dict[str, Any] = {}


class ModelIn(BaseModel):
    model_config = _STRICT

    name: Name = Field(description="namespace/name, unique within the tenant.", examples=["acme/support-7b"])
    source: SourceIn
    defaults: DefaultsIn = DefaultsIn()


class DatasetSummary(BaseModel):
    role: str
    rows: int
    size_bytes: int
    digest: str
    created_at: datetime


class ModelOut(BaseModel):
    object: Literal["model"] = "model"
    id: str
    name: str
    head: int | None = Field(description="Number of the newest published version.")
    last_version: int = Field(description="Highest number given out so far, published or not.")
    source: dict[str, Any]
    defaults: dict[str, Any]
    datasets: list[DatasetSummary]
    requests: dict[str, int] = Field(description="Erasure requests by state.")
    created_at: datetime
    links: dict[str, str]
