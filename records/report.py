"""The numbers measured for one candidate, as they are stored and served.

A report compares two LLMs item by item: the base version (`before`) and the candidate (`after`). It holds
ordinals and counts, never a prompt, an answer, a subject or a caller's id: item 3 of the forget set is
the caller's third row.
"""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(extra="forbid", frozen=True)

Split = Literal["dev", "sealed"]


class GroupName(StrEnum):
    FORGET = "forget"
    FORGET_PARAPHRASES = "forget_paraphrases"
    CONTROL = "control"
    CONTROL_PARAPHRASES = "control_paraphrases"
    RETAIN = "retain"
    RETAIN_PARAPHRASES = "retain_paraphrases"
    NEIGHBOURS = "neighbours"
    UTILITY = "utility"


class MetricName(StrEnum):
    NLL = "nll"
    TOKEN_PROBABILITY = "token_probability"  # noqa: S105 - a metric, not a secret
    EXACT = "exact"
    TOKEN_ACCURACY = "token_accuracy"  # noqa: S105 - a metric, not a secret
    EXTRACTION_STRENGTH = "extraction_strength"
    SAMPLED_PROBABILITY = "sampled_probability"
    GREEDY_EXTRACTION = "greedy_extraction"
    SAMPLED_EXTRACTION = "sampled_extraction"


class Estimate(BaseModel):
    """A mean or a rate with its 95 % interval."""

    model_config = _FROZEN

    value: float
    low: float
    high: float


class Paired(BaseModel):
    """One metric on the same items under both LLMs; `change` is after - before, interval of the paired
    differences.
    """

    model_config = _FROZEN

    before: Estimate
    after: Estimate
    change: Estimate


class ItemNumbers(BaseModel):
    """What one LLM does with one item. Nats per token for `nll`; extraction is None where nothing was
    generated.
    """

    model_config = _FROZEN

    nll: float
    token_probability: float
    exact: bool
    token_accuracy: float
    extraction_strength: float
    sampled_probability: float
    greedy_extracted: bool | None = None
    sampled_hits: int | None = None


class ItemRow(BaseModel):
    model_config = _FROZEN

    item: int = Field(description="Ordinal of the row in its set, from 0.")
    phrasing: int = Field(description="0 is the row itself, 1… its paraphrases.")
    subject: int = Field(description="Ordinal of the subject within the group, from 0.")
    split: Split = "sealed"
    before: ItemNumbers
    after: ItemNumbers


class Group(BaseModel):
    model_config = _FROZEN

    n_items: int
    n_subjects: int
    samples: int = Field(description="Answers sampled per question; 0 where nothing was generated.")
    metrics: dict[MetricName, Paired]
    items: tuple[ItemRow, ...]


class Residual(BaseModel):
    """(forget_after - control_after) / (forget_before - control_before): 1 untouched, 0 as if never
    trained.
    """

    model_config = _FROZEN

    group: GroupName
    split: Literal["dev", "sealed", "all"]
    metric: MetricName
    n_items: int
    n_subjects: int
    residual: Estimate


class EarlierNumbers(BaseModel):
    model_config = _FROZEN

    token_probability: float
    exact: int
    extraction_strength: float
    greedy_hits: int
    sampled_items: int = Field(description="Items with at least one sampled hit.")


class EarlierRequest(BaseModel):
    """An earlier request's items, asked again: has anything come back?"""

    model_config = _FROZEN

    request_id: str
    n_items: int
    before: EarlierNumbers
    after: EarlierNumbers


class Report(BaseModel):
    model_config = _FROZEN

    schema_version: Literal[1] = 1
    method: str
    parameters: dict[str, Any]
    seeds: dict[str, int]
    seconds: dict[str, float]
    training: dict[str, Any] = Field(default_factory=dict, description="What the loop did: steps, epochs, stop reason.")
    groups: dict[GroupName, Group]
    residuals: tuple[Residual, ...] = ()
    earlier: tuple[EarlierRequest, ...] = ()
    notes: tuple[str, ...] = Field(default=(), description="Sentences about sampling, splitting and missing sets.")


class VerdictKind(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NEEDS_REVIEW = "needs_review"
    NOT_MEMORISED = "not_memorised"


class Check(BaseModel):
    """One criterion. `side` says which way to turn when it fails: forget more, or hurt less."""

    model_config = _FROZEN

    name: str
    outcome: Literal["pass", "review", "reject"]
    side: Literal["forgetting", "utility", "power"]
    words: str
    value: float | None = None
    threshold: float | None = None


class Verdict(BaseModel):
    model_config = _FROZEN

    kind: VerdictKind
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def failure(self) -> Literal["forgetting", "utility"]:
        """The side the next attempt should mend: forgetting first, since a leak is what nobody may
        publish.
        """
        rejected = {check.side for check in self.checks if check.outcome == "reject"}
        return "utility" if rejected == {"utility"} else "forgetting"
