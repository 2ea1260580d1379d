"""Erasure requests on the wire."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from records.addresses import MOST_CHARACTERS
from records.evidence import Evidence
from records.examples import ExampleRecord, Label
from records.report import Report
from service.jobs.schemas import AttemptOut
from service.policies.schemas import PolicyWish
from service.shapes import Name, Shape

_STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def _plain_sentence(text: str) -> str:
    if _CONTROL.search(text) or not text.strip():
        raise ValueError("write a sentence without control characters")
    return text.strip()


def _named(subject: str) -> str:
    if not subject.strip():
        raise ValueError("write the subject as the rows of the training dataset do; this one is blank")
    return subject


Subject = Annotated[Label, AfterValidator(_named)]
ExternalId = Annotated[
    str,
    Shape(
        r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$",
        "write letters, digits, '.', '_', ':', '/' and '-', 128 at most, the first a letter or a digit, such as "
        "ticket-4711",
    ),
]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_plain_sentence)]


class Regulation(StrEnum):
    """Which law sets the deadline: gdpr one month, ccpa 45 days, other 30 days."""

    GDPR = "gdpr"
    CCPA = "ccpa"
    OTHER = "other"


class ErasureRequestIn(BaseModel):
    """One 'forget this data': the examples themselves, or a subject whose rows of the training dataset they are."""

    model_config = _STRICT

    model: Name
    forget: list[ExampleRecord] | None = Field(default=None, description="The examples to forget.")
    subject: Subject | None = Field(
        default=None,
        description="Forget every row of the training dataset with this `subject`, compared letter for letter. Instead "
        "of `forget`.",
    )
    regulation: Regulation = Regulation.GDPR
    submitted_at: AwareDatetime | None = Field(
        default=None, description="When the person asked, if that was earlier: the deadline counts from then."
    )
    method: str = Field(
        default="auto",
        max_length=64,
        description="auto: chosen from what the request holds; or a name from GET /v1/methods.",
    )
    parameters: dict[str, Any] = Field(default={}, description="Of the method; what is left out comes from the model.")
    policy: PolicyWish = Field(
        default={},
        description="`name` of a policy from GET /v1/policies, and thresholds tighter than its own. What is left out "
        "comes from the model's defaults. Looser thresholds are refused. Frozen from here on.",
        examples=[{"name": "default", "extraction_strength": {"accept": 0.05, "reject": 0.1}}],
    )
    evidence: Evidence | None = Field(
        default=None,
        description="What is kept of the forget set once it is forgotten, to see later whether it comes back: probes, "
        "the examples, encrypted; hashes of the answers' words; canaries, the examples marked so. By default what the "
        "model's defaults say, else probes.",
    )
    priority: int = Field(
        default=0,
        ge=0,
        le=4,
        description="Among requests to other models: each step counts as a week nearer to the deadline. "
        "Requests to one model keep their order.",
    )
    external_id: ExternalId | None = Field(
        default=None, description="Your own id. Kept in the clear: no names, no e-mail addresses."
    )

    callback_url: Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS)] | None = Field(
        default=None,
        description="A public https:// address that is told when the request has ended or waits for a person: ids and "
        "states, signed with the `verifying_key` of GET /v1/audit/keys.",
    )

    @model_validator(mode="after")
    def _one_payload(self) -> Self:
        if (self.forget is None) == (self.subject is None):
            raise ValueError("give exactly one of forget and subject")
        return self


class ReasonIn(BaseModel):
    """Why a person decided so. The sentence is stored and shown: it must hold no personal data."""

    model_config = _STRICT

    reason: Reason


class OptionalReasonIn(BaseModel):
    """As ReasonIn, where a reason is welcome and not needed."""

    model_config = _STRICT

    reason: Reason | None = None


class PayloadOut(BaseModel):
    """The forget set: how many rows it had, whether it or what was kept of it can be read, and what is left."""

    rows: int
    held: bool
    left: Literal["examples", "canaries", "hashes", "nothing"]


class JobSummary(BaseModel):
    id: str
    state: str
    stage: str | None
    attempt: int
    progress: float
    cancel_requested_at: datetime | None


class Notice(BaseModel):
    """Something to know that does not stop the request."""

    pointer: str
    detail: str


class ChoiceOut(BaseModel):
    """Who named the method, and why it and what of its parameters: the worker may yet change those that save memory."""

    by: Literal["request", "model", "auto"]
    reasons: list[str]


class ErasureRequestOut(BaseModel):
    object: Literal["erasure_request"] = "erasure_request"
    id: str
    model: str
    state: str
    outcome: str | None = Field(description="Why it is completed: forgotten, not_memorised or no_match.")
    done: bool = Field(description="True once the state cannot change any more.")
    reason: str | None
    external_id: str | None
    regulation: str
    submitted_at: datetime
    due_at: datetime
    method: str
    parameters: dict[str, Any]
    choice: ChoiceOut | None = Field(description="Why this method; null for requests older than this field.")
    policy: dict[str, Any]
    policy_digest: str
    policy_name: str | None = Field(description="Where the thresholds come from; null for requests older than names.")
    evidence: Evidence = Field(description="What is kept of the forget set once it is forgotten.")
    payload: PayloadOut
    version: int | None = Field(description="The version that forgot, or the candidate that waits for a person.")
    job: JobSummary | None
    position: int | None = Field(description="Jobs that run before this one; 0 is next or running, null has ended.")
    progress: float = Field(description="Share of the whole job, 0 to 1.")
    warnings: list[Notice] = Field(default=[], description="Said once, in the answer to the submission.")
    created_at: datetime
    updated_at: datetime
    links: dict[str, str]


class EventOut(BaseModel):
    """An audit entry of the request or of its job; `id` is its position in the log."""

    id: int
    tag: str
    at: datetime
    actor: str
    details: dict[str, Any]


class ReportOut(BaseModel):
    """The report of the attempt that speaks for the job, and all attempts."""

    object: Literal["report"] = "report"
    request_id: str
    job_id: str
    attempt: int
    verdict: str | None
    reason: str
    report: Report
    attempts: list[AttemptOut]
