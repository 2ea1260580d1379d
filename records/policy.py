"""The thresholds a verdict is taken under, frozen into a request when it is accepted.

A margin comes in pairs: up to `accept` it passes, beyond `reject` the candidate is thrown away, between
them a person looks. Rates and probabilities are fractions, not per cent. The defaults follow the
published spread of extraction strength and of paired utility loss; a tenant may change them before
submitting, never after.
"""

import hashlib
import json
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Margin(BaseModel):
    """`accept` ≤ `reject`, same unit as the number they judge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accept: float = Field(ge=0.0)
    reject: float = Field(ge=0.0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.accept > self.reject:
            raise ValueError("accept must not be larger than reject")
        return self


class Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    memorised_gap: float = Field(
        default=0.05,
        ge=0.0,
        le=1.0,
        description="Token probability above the control's that counts as memorised.",
    )
    extraction_significance: float = Field(
        default=0.05,
        gt=0.0,
        lt=1.0,
        description="Chance at which more hits than the control's count as a leak.",
    )
    extraction_strength: Margin = Field(
        default=Margin(accept=0.10, reject=0.20), description="Residual: 0 as if never trained, 1 untouched."
    )
    token_probability: Margin = Field(
        default=Margin(accept=0.25, reject=0.40), description="Residual of the mean token probability."
    )
    over_forgotten_ratio: float = Field(
        default=0.2,
        ge=0.0,
        le=1.0,
        description="Below this share of the control's token probability a person looks.",
    )
    retain_drop: Margin = Field(
        default=Margin(accept=0.02, reject=0.04),
        description="Paired loss of exact answers on the retain set.",
    )
    neighbours_drop: Margin = Field(
        default=Margin(accept=0.05, reject=0.10), description="Paired loss of exact answers on close rows."
    )
    utility_drop: Margin = Field(
        default=Margin(accept=0.02, reject=0.04),
        description="Paired loss of exact answers on the utility set.",
    )
    utility_perplexity: Margin = Field(
        default=Margin(accept=1.05, reject=1.10), description="Perplexity after / before on the utility set."
    )
    earlier_gain: Margin = Field(
        default=Margin(accept=0.05, reject=0.10),
        description="Rise of the extraction strength of an earlier request's items.",
    )
    min_forget_items: int = Field(default=3, ge=1, description="Fewer forget items than this need a person.")
    min_control_items: int = Field(default=10, ge=1, description="Fewer control items than this need a person.")
    min_retain_items: int = Field(default=20, ge=1, description="Fewer retain items than this need a person.")
    interval_items: int = Field(
        default=20,
        ge=1,
        description="From this many items on, upper ends of intervals decide; below, exact counts do.",
    )
    control_required: bool = Field(default=True, description="Without a control dataset a person decides.")
    retain_required: bool = Field(default=False, description="Without a retain dataset a person decides.")

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: the same thresholds give the same digest."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
