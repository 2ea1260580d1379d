"""RMU and FALCON, which steer the states of one layer: parameters, cards, attempts."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from records.params.entry import Changes, MethodCard, MethodEntry, Passes
from records.params.retain import gentler, stronger
from records.params.training import ConflictScope, LearningRate, TrainingParameters

Epochs = Annotated[
    int, Field(ge=1, le=500, description="Passes over the forget set, at most; the papers take 80 to 180 steps.")
]
NamedTuning = Annotated[
    Literal["named"], Field(description="Always the matrices that trained_modules names; no adapters.")
]
Layer = Annotated[
    int | None,
    Field(description="0-based layer whose states are steered; null: at a quarter of the depth, as 7 of 32."),
    Field(ge=0, le=999),
]
Positions = Annotated[
    Literal["labelled", "real"],
    Field(description="Positions that predict a label, or every real token of a row, as in the papers."),
]
SteeringRetainWeight = Annotated[float, Field(ge=0.0, le=1e6, description="α, weight of the retain loss.")]
Shares = tuple[Annotated[float, Field(ge=0.0, le=100.0)], Annotated[float, Field(ge=0.0, le=100.0)]]


class RmuParameters(TrainingParameters):
    """RMU: lead the forget rows' states to a random direction, hold the others where they are."""

    learning_rate: LearningRate = 5e-5
    epochs: Epochs = 100
    tuning: NamedTuning = "named"
    layer: Layer = None
    positions: Positions = "labelled"
    steering: float = Field(default=6.5, gt=0.0, le=1e5, description="c, the length of the goal.")
    steering_scale: Literal["absolute", "relative"] = Field(
        default="absolute",
        description="absolute: c as it is. relative: c times the mean length of the forget rows' states.",
    )
    retain_weight: SteeringRetainWeight = 1200.0


class FalconParameters(TrainingParameters):
    """FALCON: choose a layer, lead its forget states to an offset vector, let the retain gradient have its way."""

    learning_rate: LearningRate = 5e-5
    epochs: Epochs = 100
    tuning: NamedTuning = "named"
    layer_choice: Literal["fixed", "mutual_information", "subspace_overlap", "gradient_conflict", "separability"] = (
        Field(
            default="fixed",
            description=(
                "What decides the layer: `layer`; mutual_information, the paper's estimate; or one of three criteria "
                "that do not depend on the states' length. All are reported whichever decides."
            ),
        )
    )
    layer: Layer = None
    positions: Positions = "labelled"
    offset: Literal["projector", "amplifier", "random"] = Field(
        default="projector",
        description=(
            "projector: orthogonal to the principal directions (the paper). amplifier: along them (the released code). "
            "random: neither."
        ),
    )
    principal_directions: int | None = Field(
        default=None, ge=1, le=100_000, description="K; null: the paper's 1000 of 4096 dimensions, in proportion."
    )
    temperature: float = Field(default=0.7, gt=0.0, le=100.0, description="τ of the contrastive loss.")
    retain_weight: SteeringRetainWeight = 100.0
    # Judged over all matrices as one: the paper. For each by itself: the released code.
    conflict_scope: ConflictScope = "global"
    conflicting_shares: Shares = Field(
        default=(1.0, 1.0),
        description="Weights of the forget and retain gradient where they conflict; the code: 0.8, 1.2.",
    )
    agreeing_shares: Shares = Field(
        default=(1.0, 1.0), description="Weights where they do not conflict; the code: 0.1, 1.9."
    )

    @model_validator(mode="after")
    def _one_way_to_the_layer(self) -> Self:
        if self.layer_choice != "fixed" and (self.layer is not None or self.trained_layers):
            raise ValueError(
                "layer and trained_layers are read when layer_choice is fixed: set it to fixed, or leave them out"
            )
        return self


def _stronger_rmu(parameters: RmuParameters, attempt: int) -> Changes:
    """A farther goal and less that holds: α was tuned on LLMs whose states are longer than most."""
    farther = min(1e5, parameters.steering * 2 ** (attempt - 1))
    return stronger(parameters, attempt, steering=farther, retain_weight=parameters.retain_weight / 10 ** (attempt - 1))


def _stronger_falcon(parameters: FalconParameters, attempt: int) -> Changes:
    return stronger(parameters, attempt, retain_weight=parameters.retain_weight / 2 ** (attempt - 1))


def _gentler(parameters: RmuParameters | FalconParameters, attempt: int) -> Changes:
    """As elsewhere, under this family's own ceiling for the retain weight."""
    heavier = min(1e6, max(parameters.retain_weight, 1.0) * 2 ** (attempt - 1))
    changes = gentler(parameters, attempt)
    fields: dict[str, Any] = changes.fields | {"retain_weight": heavier}
    steps = f"step size {fields['learning_rate']:g}, up to {fields['epochs']} epochs"
    return Changes(fields, f"other examples were damaged: {steps}, retain weight {heavier:g}")


RMU = MethodEntry(
    parameters=RmuParameters,
    card=MethodCard(
        name="rmu",
        title="RMU: representation misdirection",
        paper="Li et al., ICML 2024, arXiv:2403.03218",
        equation="L = mean_rows mean_t ‖h(t) - c·u‖²/D + α·mean_rows mean_t ‖h(t) - h⁰(t)‖²/D after layer l, u random",
        needs=("forget set", "retain dataset (recommended)", "copies of the trained matrices; no teacher"),
        cost="layers 0 to l forward twice, the trained ones again without gradient and backward; no head",
        passes=Passes(retain=1),
        steers=True,
    ),
    stronger=_stronger_rmu,
    gentler=_gentler,
)
FALCON = MethodEntry(
    parameters=FalconParameters,
    card=MethodCard(
        name="falcon",
        title="FALCON: contrastive orthogonal unalignment",
        paper="Hu et al., NeurIPS 2025, arXiv:2502.01472",
        equation=(
            "L_F = mean softplus((cos(h, h⁰) - cos(h, o))/τ), L_R = α·mean(1 - cos(h, h⁰)) after layer l, "
            "o = r(I - VVᵀ)/‖·‖; step a·u⊥ + b·r, u = ∇L_F, r = ∇L_R, u⊥ without its part against r"
        ),
        needs=("forget set", "retain dataset (recommended)", "copies of the trained matrices; no teacher"),
        cost=(
            "layers 0 to l forward twice, the trained ones again without gradient and two backward passes; no head; "
            "before: layers 0 to l of the forget rows once, and for the comparison of layers one forward of up to 200 "
            "rows a side and the likelihood's gradients of up to 64"
        ),
        passes=Passes(retain=1),
        steers=True,
    ),
    stronger=_stronger_falcon,
    gentler=_gentler,
)
