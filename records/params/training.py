"""What the one training loop reads, whichever method runs in it."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

LearningRate = Annotated[float, Field(ge=1e-8, le=1e-2, description="AdamW step size.")]
RetainBatchSize = Annotated[
    int | None,
    Field(ge=1, le=4096, description="Retain rows per optimiser step; as many as batch_size if not given."),
]
RepairSteps = Annotated[
    int,
    Field(
        ge=0,
        le=10_000,
        description=(
            "Steps on retain rows alone once every item is forgotten, the step size falling to 0; then all are asked "
            "again, and what came back is forgotten again, three times at most. Read by methods with a retain term."
        ),
    ),
]
Teacher = Annotated[
    Literal["previous", "original"],
    Field(
        description=(
            "Which version is frozen for the losses that compare with one. previous: the one that the job starts from. "
            "original: the first one of the model whose weights are still kept, which a row of requests cannot wear "
            "down."
        )
    ),
]
ConsolidateEvery = Annotated[
    int,
    Field(
        ge=0,
        le=10_000,
        description=(
            "After so many versions a job forgets everybody who ever asked anew, from the first version whose weights "
            "are kept, which no row of requests has worn; then again when half as many more have asked. 0: never."
        ),
    ),
]
ConflictScope = Annotated[
    Literal["global", "tensor", "off"],
    Field(
        description=(
            "Where the forget gradient points against the retain gradient, that part of it is left out: judged over "
            "all trained tensors as one, for each by itself, or never. Read by methods with a retain term."
        )
    ),
]
UpdateLimit = Annotated[
    float | None,
    Field(
        gt=0.0,
        le=10.0,
        description=(
            "No trained tensor W ends a step farther than this times ‖W₀‖ from W₀, the weights that the job starts "
            "from, in Frobenius norm. null: as far as the steps take it. Not for adapters, which start at 0."
        ),
    ),
]
RepairShare = Annotated[
    float,
    Field(
        ge=0.0,
        le=1.0,
        description="A repair, if there is any, takes at least this share of the steps before it.",
    ),
]
StopRatio = Annotated[
    float, Field(ge=0.1, le=10.0, description="An item is done at this multiple of the never-trained level.")
]
StopLevel = Annotated[
    Literal["mean", "own"],
    Field(
        description=(
            "The never-trained level that an item must reach. mean: the control's mean token probability. own: what is "
            "estimated of this very answer from the rows that are held, scaled by the control; the mean without a "
            "control, or for a method without a retain term."
        )
    ),
]
ForgetParaphrases = Annotated[
    bool,
    Field(
        description="Train on half of the forget set's paraphrases too, those that guide the stop. The others are only "
        "asked."
    ),
]
Rewordings = Annotated[
    int,
    Field(
        ge=0,
        le=30,
        description=(
            "Other wordings made of each forget example, trained on and looked at before it counts as forgotten: in "
            "turn its question with words left out, question and answer so, and another example's question before it."
        ),
    ),
]


def _one_sentence(given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Else each of the two forms would say by itself what it is not."""
    try:
        return handler(given)
    except ValidationError:
        raise ValueError('give all-linear, or a list of module names such as ["q_proj", "v_proj"]') from None


LoraTargets = Annotated[
    tuple[str, ...] | Literal["all-linear"],
    WrapValidator(_one_sentence),
    Field(description="Module names to adapt, or every linear layer but the head."),
]


class TrainingParameters(BaseModel):
    """What the one training loop reads, whichever method runs in it.

    The only base class here: the wire format is flat, and fields repeated per method would drift.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: LearningRate = 1e-4
    epochs: int = Field(default=30, ge=1, le=500, description="Passes over the forget set, at most.")
    max_steps: int | None = Field(default=None, ge=1, le=1_000_000, description="Optimiser steps, at most.")
    batch_size: int = Field(default=8, ge=1, le=4096, description="Forget examples per optimiser step.")
    micro_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Examples in memory at once; gradients of a batch are accumulated.",
    )
    retain_batch_size: RetainBatchSize = None
    repair_steps: RepairSteps = 0
    repair_share: RepairShare = 0.0
    teacher: Teacher = "previous"
    conflict_scope: ConflictScope = "off"
    consolidate_every: ConsolidateEvery = 0
    gradient_checkpointing: bool = Field(
        default=False,
        description="Keep each layer's input alone and compute the rest again: far less memory, a third more time.",
    )
    schedule: Literal["constant", "linear"] = Field(default="constant", description="Linear falls to 0 at the end.")
    warmup_steps: int = Field(default=0, ge=0, le=100_000, description="Steps over which the step size rises from 0.")
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0, description="AdamW's decoupled decay.")
    gradient_clip: float = Field(default=1.0, gt=0.0, le=1e6, description="Largest norm of one step's gradient.")
    update_limit: UpdateLimit = None
    tuning: Literal["full", "lora", "named"] = Field(
        default="full",
        description="All weights; adapters merged afterwards; or the matrices that trained_modules names.",
    )
    trained_layers: tuple[Annotated[int, Field(ge=0, le=999)], ...] = Field(
        default=(), description="0-based layers to train when tuning is named; empty: all, or the method's own choice."
    )
    trained_modules: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=("mlp-output",),
        description=(
            "Modules of a layer to train when tuning is named, such as self_attn.o_proj. mlp-output is the matrix that "
            "ends the feed-forward block, whatever the architecture calls it."
        ),
    )
    lora_rank: int = Field(default=16, ge=1, le=1024, description="Rank of each adapter; read when tuning is lora.")
    lora_alpha: float = Field(default=32.0, gt=0.0, le=4096.0, description="Adapter scale is alpha / rank.")
    lora_targets: LoraTargets = "all-linear"
    stop_ratio: StopRatio = 1.05
    forget_paraphrases: ForgetParaphrases = False
    rewordings: Rewordings = 0
    stop_level: StopLevel = "mean"
    retain_source: Literal["retain", "utility", "sampled"] = Field(
        default="retain",
        description=(
            "Where the retain rows come from. retain: rows like the forget set, of the retain and training datasets, "
            "and half of the utility dataset. utility: that half alone. sampled: no dataset but text that the LLM "
            "itself writes before the first step, which is also taken when there are no such rows. Read by methods "
            "with a retain term."
        ),
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="Decides batches, adapters' start and all draws.",
    )

    @model_validator(mode="after")
    def _limited_weights_are_trained(self) -> Self:
        if self.update_limit is not None and self.tuning == "lora":
            raise ValueError(
                "update_limit is a share of the weights that are trained, and adapters start at 0: set tuning to full "
                "or named, or leave update_limit out"
            )
        return self
