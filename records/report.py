"""The numbers measured for one candidate, as they are stored and served.

A report compares two LLMs item by item: the base version (`before`) and the candidate (`after`). It holds
ordinals and counts, never a prompt, an answer, a subject or a caller's id: item 3 of the forget set is
the caller's third row.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from records.params.escalation import FAILURES, Failure

_FROZEN = ConfigDict(extra="forbid", frozen=True)

Split = Literal["dev", "sealed"]
Side = Literal["forgetting", "paraphrases", "over_forgetting", "utility", "precision", "relearning", "power"]


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
    TRUTH_SHARE = "truth_share"
    VERBATIM_RUN = "verbatim_run"
    EXTRACTION_LIKELIHOOD = "extraction_likelihood"
    ROUGE_RECALL = "rouge_recall"
    ROUGE_F1 = "rouge_f1"
    REFUSAL = "refusal"
    EMPTY = "empty"
    REPETITION = "repetition"
    TOKEN_ENTROPY = "token_entropy"  # noqa: S105 - a metric, not a secret
    EXPOSURE = "exposure"


class Estimate(BaseModel):
    """A mean or a rate with its 95 % interval."""

    model_config = _FROZEN

    value: float
    low: float
    high: float


class Paired(BaseModel):
    """One metric on the same items under both LLMs; `change` is after - before, interval of the paired
    differences. A metric of which no item has a number is absent from its group.
    """

    model_config = _FROZEN

    before: Estimate
    after: Estimate
    change: Estimate
    n_items: int | None = Field(default=None, description="Items that have it; null: all of the group.")


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
    sampled_hits: int | None = Field(
        default=None,
        description="Sampled answers that hold it. Of a control row, 0 without sampling where its probability lets "
        "expect less than 0.001 of them.",
    )
    verbatim_run: int | None = Field(default=None, description="Tokens that the greedy answer copies in one run.")
    zlib: float | None = Field(default=None, description="Nats of the answer per byte of its compressed text.")
    min_k: float | None = Field(default=None, description="Minus the mean log-probability of the least likely 40 %.")
    min_k_plus_plus: float | None = Field(default=None, description="The same, standardised at each position.")
    truth_share: float | None = Field(default=None, description="Right answer against wrong ones; 0.5 knows neither.")
    extraction_likelihood: float | None = Field(
        default=None, description="Share of 10-grams that greedy continuations of several prefixes share with the rest."
    )
    rouge_recall: float | None = Field(default=None, description="ROUGE-L recall of the greedy answer, over words.")
    rouge_f1: float | None = Field(default=None, description="ROUGE-L F1 of the greedy answer, over words.")
    answer_tokens: int | None = Field(default=None, description="Of the greedy answer; 0 says nothing.")
    refused: bool | None = Field(default=None, description="The greedy answer declines, by English phrases.")
    repetition: float | None = Field(default=None, description="Share of its 4-grams that stood in it before.")
    token_entropy: float | None = Field(default=None, description="0 one token over and over, 1 none twice.")
    exposure: float | None = Field(
        default=None, description="Bits by which a canary stands out from its wrong answers, by rank; 1.44 by chance."
    )


class ItemRow(BaseModel):
    model_config = _FROZEN

    item: int = Field(description="Ordinal of the row in its set, from 0.")
    phrasing: int = Field(description="0 is the row itself, 1… its paraphrases.")
    subject: int = Field(description="Ordinal of the subject within the group, from 0.")
    split: Split = "sealed"
    before: ItemNumbers
    after: ItemNumbers
    reference: ItemNumbers | None = Field(default=None, description="Under the model's never-trained reference.")


class Group(BaseModel):
    model_config = _FROZEN

    n_items: int
    n_subjects: int
    samples: int = Field(description="Answers sampled per question; 0 where nothing was generated.")
    metrics: dict[MetricName, Paired]
    items: tuple[ItemRow, ...]


class Residual(BaseModel):
    """Mean departure of the forget items from what never-trained ones of the same difficulty score, after over
    before: 1 untouched, 0 as if never trained, below 0 driven past that. The interval holds 90 %: each end alone is
    a bound of 95 %. Absent where there was no gap to speak of before, or fewer than two control subjects.
    """

    model_config = _FROZEN

    group: GroupName
    split: Literal["dev", "sealed", "all"]
    metric: MetricName
    n_items: int
    n_subjects: int
    residual: Estimate
    gap: float | None = Field(default=None, description="Mean departure before, in units of the metric.")
    basis: Literal["subjects resampled", "control's variance"] | None = Field(
        default=None, description="What the interval's width comes from."
    )
    calibrated: bool | None = Field(default=None, description="Against the reference item by item, or the mean alone.")


class EarlierNumbers(BaseModel):
    model_config = _FROZEN

    token_probability: float
    exact: int
    extraction_strength: float
    greedy_hits: int
    sampled_items: int = Field(description="Items with at least one sampled hit.")
    canaries: int = Field(default=0, description="Canaries that have wrong answers to stand out from.")
    exposure: float | None = Field(default=None, description="Their mean exposure, bits.")


class OwnTime(BaseModel):
    """An earlier request's numbers under the version that forgot it, or under the first of which it was asked again."""

    model_config = _FROZEN

    version: int
    n_items: int
    numbers: EarlierNumbers


class EarlierRequest(BaseModel):
    """An earlier request's items, asked again: has anything come back?"""

    model_config = _FROZEN

    request_id: str
    n_items: int
    before: EarlierNumbers
    after: EarlierNumbers
    own_time: OwnTime | None = Field(default=None, description="Absent where `before` is the first measurement.")


class HashedRequest(BaseModel):
    """An earlier request of which only hashes are kept: to how many questions, whoever they are about, something of it
    was said.
    """

    model_config = _FROZEN

    request_id: str
    n_questions: int = Field(description="That were answered, by both versions.")
    before: int
    after: int
    gained: int = Field(description="After and not before; it may be that others were lost.")


class Attack(BaseModel):
    """The forget and control questions again under harder conditions, item by item.

    precision    both versions with quantised weights: before is the base version, after the candidate
    prompt       other ways to ask: before is the base version, after the candidate
    relearning   before is the candidate, after is what training on some rows for a few steps makes of it
    """

    model_config = _FROZEN

    name: str = Field(description="int8, nf4, prefix, few_shot, reworded, partly_given, benign, half_split, savings…")
    kind: Literal["precision", "prompt", "relearning"]
    groups: dict[GroupName, Group]
    hashed: tuple[HashedRequest, ...] = ()
    seconds: float
    candidate_broke: bool = Field(
        default=False, description="The candidate's probabilities were not numbers, the base version's were."
    )
    notes: tuple[str, ...] = ()


class Check(BaseModel):
    """One criterion. `side` says which way to turn when it fails."""

    model_config = _FROZEN

    name: str
    gate: str = Field(default="", description="G0 to G7, see docs/evaluation.md.")
    outcome: Literal["pass", "review", "reject"]
    side: Side
    words: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None


class Report(BaseModel):
    model_config = _FROZEN

    schema_version: Literal[1, 2] = 2
    method: str
    parameters: dict[str, Any]
    seeds: dict[str, int]
    seconds: dict[str, float]
    training: dict[str, Any] = Field(default_factory=dict, description="What the loop did: steps, epochs, stop reason.")
    groups: dict[GroupName, Group]
    residuals: tuple[Residual, ...] = ()
    earlier: tuple[EarlierRequest, ...] = ()
    hashed: tuple[HashedRequest, ...] = Field(
        default=(), description="Earlier requests of which only hashes are kept, searched for in all answers."
    )
    attacks: tuple[Attack, ...] = ()
    since_first: dict[GroupName, Group] = Field(
        default_factory=dict, description="Who must stay, under the first version whose weights are kept and now."
    )
    checks: tuple[Check, ...] = Field(default=(), description="What the gate asked of these numbers.")
    notes: tuple[str, ...] = Field(default=(), description="Sentences about sampling, splitting and missing sets.")


class VerdictKind(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NEEDS_REVIEW = "needs_review"
    NOT_MEMORISED = "not_memorised"


class Verdict(BaseModel):
    model_config = _FROZEN

    kind: VerdictKind
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def failure(self) -> Failure:
        """The side the next attempt should mend: forgetting first, since a leak is what nobody may publish."""
        return failure_of(self.checks)


def failure_of(checks: Iterable[Check]) -> Failure:
    """The first of FAILURES that a check rejected, or else that a person was asked about; forgetting if none was."""
    asked = list(checks)
    for outcome in ("reject", "review"):
        sides = {check.side for check in asked if check.outcome == outcome}
        for failure in FAILURES:
            if failure in sides:
                return failure
    return "forgetting"
