"""Gradient ascent, alone and beside descent or KL on retain rows: parameters, cards, attempts."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from records.params.entry import Changes, MethodCard, MethodEntry, Passes
from records.params.retain import RetainSource, RetainWeight, gentler, stronger
from records.params.training import LearningRate, TrainingParameters

YAO = "Yao et al., ACL 2024, arXiv:2402.15159"

Ceiling = Annotated[
    float | None,
    Field(
        description=(
            "A token gets no more gradient at this many times the surprise of a never-trained one, -log(level), "
            "levels above 0.1 counting as 0.1. "
            "null: never, as published; the loss then has no lowest point."
        ),
    ),
    Field(ge=1.0, le=1000.0),
]


class GradientAscentParameters(TrainingParameters):
    """Gradient ascent: climb the loss of the forget rows. Damages the rest quickly; a baseline."""

    learning_rate: LearningRate = 2e-5
    ceiling: Ceiling = 2.0


class AscentDescentParameters(TrainingParameters):
    """Ascent on forget rows, descent on in-distribution retain rows."""

    learning_rate: LearningRate = 2e-5
    ceiling: Ceiling = 2.0
    retain_weight: RetainWeight = 1.0


class AscentDescentGeneralParameters(TrainingParameters):
    """Ascent on forget rows, descent on general text."""

    learning_rate: LearningRate = 2e-5
    ceiling: Ceiling = 2.0
    retain_weight: RetainWeight = 1.0
    retain_source: RetainSource = "utility"


class AscentKlParameters(TrainingParameters):
    """Ascent on forget rows, KL to the LLM as it was on in-distribution retain rows."""

    learning_rate: LearningRate = 2e-5
    ceiling: Ceiling = 2.0
    retain_weight: RetainWeight = 1.0


class AscentKlGeneralParameters(TrainingParameters):
    """Ascent on forget rows, KL to the LLM as it was on general text."""

    learning_rate: LearningRate = 2e-5
    ceiling: Ceiling = 2.0
    retain_weight: RetainWeight = 1.0
    retain_source: RetainSource = "utility"


Ascents = (
    GradientAscentParameters
    | AscentDescentParameters
    | AscentDescentGeneralParameters
    | AscentKlParameters
    | AscentKlGeneralParameters
)


def _stronger(parameters: Ascents, attempt: int) -> Changes:
    """Larger steps, and a higher ceiling if there is one."""
    if parameters.ceiling is None:
        return stronger(parameters, attempt)
    return stronger(parameters, attempt, ceiling=min(1000.0, parameters.ceiling * 2 ** (attempt - 1)))


GRADIENT_ASCENT = MethodEntry(
    parameters=GradientAscentParameters,
    card=MethodCard(
        name="gradient_ascent",
        title="Gradient ascent",
        paper=f"Jang et al., ACL 2023, arXiv:2210.01504; {YAO}",
        equation="L = -(1/N) Σ_n min(-log p(label), c) over labelled tokens; published with c = ∞",
        needs=("forget set",),
        cost="3 forward units per forget batch",
        passes=Passes(),
    ),
    stronger=_stronger,
    gentler=gentler,
)
_DESCENT = MethodCard(
    name="ascent_descent",
    title="Ascent + descent on in-distribution rows",
    paper=f"{YAO}; GradDiff in Maini et al., COLM 2024, arXiv:2401.06121",
    equation="L = L_ascent(forget) + λ·(1/M) Σ_m -log p(label) over the retain rows' labelled tokens",
    needs=("forget set", "retain dataset"),
    cost="6 forward units per pair of batches",
    passes=Passes(retain=1),
)
ASCENT_DESCENT = MethodEntry(AscentDescentParameters, _DESCENT, _stronger, gentler)
ASCENT_DESCENT_GENERAL = MethodEntry(
    AscentDescentGeneralParameters,
    replace(
        _DESCENT,
        name="ascent_descent_general",
        title="Ascent + descent on general text",
        needs=("forget set", "utility dataset"),
    ),
    _stronger,
    gentler,
)
_KL = MethodCard(
    name="ascent_kl",
    title="Ascent + KL on in-distribution rows",
    paper=YAO,
    equation="L = L_ascent(forget) + λ·(1/M) Σ_m KL(p_teacher ‖ p) over the retain rows' labelled tokens",
    needs=("forget set", "retain dataset", "teacher: cached"),
    cost="6 forward units per pair of batches, one head matmul more, one teacher forward per retain row",
    passes=Passes(retain=1, teacher_heads_retain=1, once_retain=1),
)
ASCENT_KL = MethodEntry(AscentKlParameters, _KL, _stronger, gentler)
ASCENT_KL_GENERAL = MethodEntry(
    AscentKlGeneralParameters,
    replace(
        _KL,
        name="ascent_kl_general",
        title="Ascent + KL on general text",
        needs=("forget set", "utility dataset", "teacher: cached"),
    ),
    _stronger,
    gentler,
)
