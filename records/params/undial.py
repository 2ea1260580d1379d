"""UnDIAL's parameters, card and attempts."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from records.params.entry import Changes, MethodCard, MethodEntry, Passes, larger_steps, smaller_steps
from records.params.training import (
    ConsolidateEvery,
    ForgetParaphrases,
    LearningRate,
    RepairSteps,
    RetainBatchSize,
    Rewordings,
    StopLevel,
    StopRatio,
    Teacher,
    TrainingParameters,
)

PIPELINE_NAME = "^[A-Za-z0-9_]+$"


def _pipeline_name(name: str) -> str:
    if re.fullmatch(PIPELINE_NAME, name) is None:
        raise ValueError(
            "name a spaCy pipeline that is installed beside the worker, as Python imports it: letters, digits and '_', "
            "such as en_core_web_sm; a folder is not taken"
        )
    return name


PipelineName = Annotated[
    str,
    Field(min_length=1, max_length=100, json_schema_extra={"pattern": PIPELINE_NAME}),
    AfterValidator(_pipeline_name),
]


class UndialParameters(TrainingParameters):
    """UnDIAL: learn the teacher's own distribution with the label's probability cut.

    The defaults are those that held over rows of twenty requests on small LLMs that had memorised their corpus
    (docs/sequential.md); a γ of 10 leaves tokens of p > 0.9999 the likeliest.
    """

    retain_batch_size: RetainBatchSize = 32
    repair_steps: RepairSteps = 20
    teacher: Teacher = "original"
    consolidate_every: ConsolidateEvery = 10
    learning_rate: LearningRate = 3e-4
    stop_ratio: StopRatio = 1.5
    stop_level: StopLevel = "own"
    forget_paraphrases: ForgetParaphrases = True
    rewordings: Rewordings = 3
    epochs: int = Field(default=60, ge=1, le=500, description="Passes over the forget set, at most.")
    target: Literal["gamma", "level", "floor", "exchange"] = Field(
        default="level",
        description=(
            "gamma: subtract `strength` from the label's logit (the paper). level: cut its probability to what it "
            "would be if it had never been trained; gamma where that is not known, which takes `stop_level` own, a "
            "control and rows to hold. floor: cut its probability to `floor`. "
            "exchange: what the teacher says when the question names others, of the words that their answers do not "
            "share; gamma for an example whose prompt does not name its `subject`."
        ),
    )
    strength: float = Field(
        default=30.0,
        ge=0.0,
        le=100.0,
        description="γ, in logits; read when target is gamma, or level or exchange falls back to it.",
    )
    floor: float = Field(
        default=0.02,
        ge=1e-9,
        le=0.5,
        description="Most probability the label keeps; read when target is floor.",
    )
    level_weight: float = Field(
        default=1.0,
        ge=0.0,
        le=100.0,
        description=(
            "λ: how hard a label is pulled to the level it would have if it had never been trained; read when "
            "stop_level is own. 0: the paper, which leaves it far above."
        ),
    )
    focus: Literal["none", "hard", "soft"] = Field(
        default="none",
        description=(
            "Which tokens of a forget example count. hard: those inside its `sensitive` spans alone. soft: those by "
            "`focus_weight`, the others once. none: all alike, as for an example without such spans."
        ),
    )
    focus_weight: float = Field(
        default=10.0,
        ge=1.0,
        le=1000.0,
        description="Weight of a token inside a span beside 1 outside; read when focus is soft.",
    )
    focus_spans: Literal["given", "entities", "nouns"] = Field(
        default="given",
        description=(
            "Where the spans come from for an example that has no `sensitive` ones. entities, nouns: found in it by "
            "`focus_pipeline`. given: nowhere. Read when focus is hard or soft."
        ),
    )
    focus_pipeline: PipelineName | None = Field(
        default=None, description="Name of a spaCy pipeline installed beside the worker, such as en_core_web_sm."
    )
    retain_kind: Literal["none", "nll", "distill"] = Field(
        default="distill",
        description="distill: stay at the teacher on retain rows. nll: their labels. none: no term.",
    )
    retain_weight: float = Field(default=12.0, ge=0.0, le=1000.0, description="Weight of the retain loss.")

    @model_validator(mode="after")
    def _spans_are_found_by_something(self) -> Self:
        if self.focus_spans != "given" and self.focus_pipeline is None:
            raise ValueError(
                f"focus_spans is {self.focus_spans}, which a pipeline finds: name one in focus_pipeline, or set "
                "focus_spans to given"
            )
        return self

    @model_validator(mode="after")
    def _others_answers_are_compared_whole(self) -> Self:
        if self.target == "exchange" and self.focus != "none":
            raise ValueError(
                f"target is exchange, which finds the subject's own words by itself, and focus is {self.focus}: "
                "set focus to none, or target to gamma"
            )
        return self


def _stronger(parameters: UndialParameters, attempt: int) -> Changes:
    """First the floor target, which fits every token whatever its probability, then larger steps.

    Under "exchange" the target stays, since a floor would leave the form suppressed that any answer has. A hard focus
    becomes soft: what the gate still finds may lie outside the spans.
    """
    kept = parameters.target == "exchange"
    fields = larger_steps(parameters, attempt) | {
        "target": "exchange" if kept else "floor",
        "floor": max(1e-9, 2 * parameters.floor / 2 ** (attempt - 1)),
        "focus": "soft" if parameters.focus == "hard" else parameters.focus,
        "stop_ratio": max(min(1.05, parameters.stop_ratio), parameters.stop_ratio / 2 ** (attempt - 1)),
    }
    goal = "others' answers as the target" if kept else f"cut each label's probability to {fields['floor']:g}"
    why = (
        f"too little was forgotten: {goal}, an item done at {fields['stop_ratio']:g} times the never-trained level, "
        f"step size {fields['learning_rate']:g}, up to {fields['epochs']} epochs"
    )
    return Changes(fields, why)


def _gentler(parameters: UndialParameters, attempt: int) -> Changes:
    """Smaller steps and a heavier retain term."""
    fields = smaller_steps(parameters, attempt) | {
        "retain_weight": min(1000.0, max(parameters.retain_weight, 1.0) * 2 ** (attempt - 1)),
        "retain_kind": "distill" if parameters.retain_kind == "none" else parameters.retain_kind,
    }
    why = (
        f"other examples were damaged: step size {fields['learning_rate']:g}, up to {fields['epochs']} epochs, "
        f"retain weight {fields['retain_weight']:g} ({fields['retain_kind']})"
    )
    return Changes(fields, why)


def _quieter(parameters: UndialParameters, attempt: int) -> Changes:
    """Others' answers as the target leave the form alone that any answer has; see docs/methods.md for the ratio."""
    fields = {"target": "exchange", "focus": "none", "stop_ratio": 2.0}
    why = "the forgotten can be told from never-trained people: others' answers as the target"
    if parameters.target == "exchange" or attempt > 2:
        smaller = smaller_steps(parameters, attempt)
        fields |= smaller
        why += f", step size {smaller['learning_rate']:g}, up to {smaller['epochs']} epochs"
    return Changes(fields, why)


UNDIAL = MethodEntry(
    parameters=UndialParameters,
    card=MethodCard(
        name="undial",
        title="UnDIAL: self-distillation with adjusted logits",
        paper="Dong et al., NAACL 2025, arXiv:2402.10052",
        equation=(
            "L = (1/N) Σ_n [-Σ_v q(v) log p(v) + λ·max(0, log p(label) - ℓ_n)] + λ_r·L_retain over labelled tokens, "
            "q = the teacher with the label cut to at most exp(ℓ_n), or softmax(z_teacher - γ·onehot(label)), ℓ_n the "
            "level of a label never trained on, λ = level_weight, λ_r = retain_weight; the paper has the first term "
            "with γ alone"
        ),
        needs=(
            "forget set",
            "retain dataset (recommended; without one neighbours are damaged)",
            "teacher: cached",
        ),
        cost="3 forward units per forget and retain batch, one teacher forward per example, one head matmul more",
        passes=Passes(retain=1, teacher_heads_forget=1, teacher_heads_retain=1, once_forget=1, once_retain=1),
    ),
    stronger=_stronger,
    gentler=_gentler,
    quieter=_quieter,
)
