"""Models on the wire."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from records.evidence import Evidence
from service.policies.schemas import PolicyWish
from service.shapes import Id, Name

_STRICT = ConfigDict(extra="forbid", frozen=True)
_REFERENCE = (
    "Another model of the tenant, never trained on what this one is asked to forget: the base before your fine-tuning, "
    "or any other causal LLM. Its version 1 shows how hard each item is for who never saw it."
)


class SourceIn(BaseModel):
    """Where the weights are: exactly one of `path`, `upload` and `repo_id`."""

    model_config = _STRICT

    path: str | None = Field(default=None, min_length=1, max_length=4096, description="A folder under an import root.")
    upload: Id | None = Field(default=None, description="An upload, all sent.")
    repo_id: str | None = Field(
        default=None, max_length=200, description="A Hugging Face repository: not available yet."
    )
    revision: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if [self.path, self.upload, self.repo_id].count(None) != 2:
            raise ValueError("give exactly one of path, upload and repo_id")
        return self


class DefaultsIn(BaseModel):
    """What a request to this model gets where it says nothing."""

    model_config = _STRICT

    method: str | None = None
    parameters: dict[str, Any] = {}
    policy: PolicyWish = {}
    evidence: Evidence | None = None


class ModelIn(BaseModel):
    model_config = _STRICT

    name: Name = Field(description="namespace/name, unique within the tenant.", examples=["acme/support-7b"])
    source: SourceIn
    defaults: DefaultsIn = DefaultsIn()
    reference: Name | None = Field(default=None, description=_REFERENCE, examples=["acme/base-7b"])


class ModelChangeIn(BaseModel):
    """What is to change; what is left out stays."""

    model_config = _STRICT

    defaults: DefaultsIn = Field(default=DefaultsIn(), description="The new defaults, all of them.")
    reference: Name | None = Field(default=None, description=f"{_REFERENCE} null takes it away.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("give defaults, reference or both")
        return self


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
    reference: str | None = Field(description="The model that was never trained on what this one forgets.")
    datasets: list[DatasetSummary]
    requests: dict[str, int] = Field(description="Erasure requests by state.")
    created_at: datetime
    links: dict[str, str]
