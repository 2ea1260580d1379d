"""CE-U and WGA, whose pressure on a token falls with its probability: parameters, cards, attempts."""

from pydantic import Field

from records.params.entry import MethodCard, MethodEntry, Passes
from records.params.retain import RetainKind, RetainWeight, gentler, stronger
from records.params.training import LearningRate, TrainingParameters


class CeUParameters(TrainingParameters):
    """CE-U: learn one's own distribution with the label removed."""

    learning_rate: LearningRate = 1e-5
    skip_first: bool = Field(default=False, description="Leave the first token of longer answers alone, as published.")
    retain_kind: RetainKind = "none"
    retain_weight: RetainWeight = 1.0


class WgaParameters(TrainingParameters):
    """WGA: gradient ascent, each token weighed by its own probability."""

    learning_rate: LearningRate = 1e-5
    beta: float = Field(
        default=1.0, ge=0.0, le=100.0, description="Power of the probability that weighs a token; 0 is plain ascent."
    )
    retain_kind: RetainKind = "none"
    retain_weight: RetainWeight = 1.0


CE_U = MethodEntry(
    parameters=CeUParameters,
    card=MethodCard(
        name="ce_u",
        title="CE-U: cross-entropy unlearning",
        paper="Yang, 2025, arXiv:2503.01224",
        equation="L = (1/N) Σ_n CE(q_n, p_n), q_n = stop-gradient of softmax(z_n with the label's logit -∞)",
        needs=("forget set", "retain dataset (only with retain_kind)"),
        cost="3 forward units per forget batch, 3 more per retain batch",
        passes=Passes(),
    ),
    stronger=stronger,
    gentler=gentler,
)
WGA = MethodEntry(
    parameters=WgaParameters,
    card=MethodCard(
        name="wga",
        title="WGA: weighted gradient ascent",
        paper="Wang et al., ICLR 2025, arXiv:2502.19301",
        equation="L = (1/N) Σ_n p_n^β·log p_n, p_n = p(label), its power without a gradient",
        needs=("forget set", "retain dataset (only with retain_kind)"),
        cost="3 forward units per forget batch, 3 more per retain batch",
        passes=Passes(),
    ),
    stronger=stronger,
    gentler=gentler,
)
