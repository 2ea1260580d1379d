"""NPO, SimNPO and IdkDPO: parameters, cards, attempts."""

from typing import Annotated

from pydantic import Field

from records.params.entry import Changes, MethodCard, MethodEntry, Passes
from records.params.retain import RetainKind, RetainWeight, gentler, stronger
from records.params.training import LearningRate, TrainingParameters

LEAST_BETA = 1e-3
Beta = Annotated[
    float,
    Field(
        ge=LEAST_BETA,
        le=100.0,
        description="How soon the pressure on an answer falls as it is forgotten; small is close to plain ascent.",
    ),
]


class NpoParameters(TrainingParameters):
    """NPO: push each forget answer below its probability in the LLM as it was."""

    learning_rate: LearningRate = 1e-5
    beta: Beta = 0.1
    retain_kind: RetainKind = "nll"
    retain_weight: RetainWeight = 1.0


class SimnpoParameters(TrainingParameters):
    """SimNPO: NPO by the mean NLL of an answer, without a reference."""

    learning_rate: LearningRate = 1e-5
    beta: Beta = 4.5
    margin: float = Field(default=0.0, ge=0.0, le=100.0, description="δ, subtracted after the multiplication by β.")
    retain_kind: RetainKind = "nll"
    retain_weight: RetainWeight = 8.0


class IdkDpoParameters(TrainingParameters):
    """IdkDPO: prefer a refusal to the forget answer. The refusals are English."""

    learning_rate: LearningRate = 1e-5
    beta: Beta = 0.1
    retain_kind: RetainKind = "nll"
    retain_weight: RetainWeight = 1.0


def _stronger(parameters: NpoParameters | SimnpoParameters | IdkDpoParameters, attempt: int) -> Changes:
    """Larger steps, and a pressure that lasts longer."""
    return stronger(parameters, attempt, beta=max(LEAST_BETA, parameters.beta / 2 ** (attempt - 1)))


NPO = MethodEntry(
    parameters=NpoParameters,
    card=MethodCard(
        name="npo",
        title="NPO: negative preference optimisation",
        paper="Zhang et al., COLM 2024, arXiv:2404.05868",
        equation="L = -(2/β) mean_i log σ(β(NLL_i - NLL_i⁰)) + λ·L_retain, NLL_i summed over the answer",
        needs=("forget set", "retain dataset (recommended)", "teacher: one number per row"),
        cost="6 forward units per pair of batches, one teacher forward per forget row",
        passes=Passes(retain=1, once_forget=1),
    ),
    stronger=_stronger,
    gentler=gentler,
)
SIMNPO = MethodEntry(
    parameters=SimnpoParameters,
    card=MethodCard(
        name="simnpo",
        title="SimNPO: NPO without a reference, length-normalised",
        paper="Fan et al., 2024, arXiv:2410.07163",
        equation="L = -(2/β) mean_i log σ(β·NLL_i/|y_i| - δ) + λ·L_retain",
        needs=("forget set", "retain dataset (recommended)"),
        cost="6 forward units per pair of batches",
        passes=Passes(retain=1),
    ),
    stronger=_stronger,
    gentler=gentler,
)
IDK_DPO = MethodEntry(
    parameters=IdkDpoParameters,
    card=MethodCard(
        name="idk_dpo",
        title="IdkDPO: prefer not knowing",
        paper="Maini et al., COLM 2024, arXiv:2401.06121; Rafailov et al., NeurIPS 2023, arXiv:2305.18290",
        equation="L = -(2/β) mean_i log σ(β[(NLL_i - NLL_i⁰) - (NLL_i^idk - NLL_i^idk⁰)]) + λ·L_retain",
        needs=("forget set", "retain dataset (recommended)", "teacher: two numbers per row"),
        cost="9 forward units per pair of batches, two teacher forwards per forget row",
        passes=Passes(forget=2, retain=1, once_forget=2),
    ),
    stronger=_stronger,
    gentler=gentler,
)
