"""Random labels and adversarial samples: parameters, cards, attempts."""

from records.params.ascent import YAO
from records.params.entry import MethodCard, MethodEntry, Passes
from records.params.retain import gentler, stronger
from records.params.training import LearningRate, TrainingParameters


class RandomLabelsParameters(TrainingParameters):
    """Random labels: learn noise in the place of the forget answers. The most destructive of its family."""

    learning_rate: LearningRate = 2e-5


class AdversarialLabelsParameters(TrainingParameters):
    """Adversarial samples: learn the likeliest wrong token. The mildest of its family."""

    learning_rate: LearningRate = 2e-5


RANDOM_LABELS = MethodEntry(
    parameters=RandomLabelsParameters,
    card=MethodCard(
        name="random_labels",
        title="Random labels",
        paper=YAO,
        equation="L = (1/N) Σ_n -log p(a_n), a_n uniform over words other than the label, drawn once",
        needs=("forget set",),
        cost="3 forward units per forget batch",
        passes=Passes(),
    ),
    stronger=stronger,
    gentler=gentler,
)
ADVERSARIAL_LABELS = MethodEntry(
    parameters=AdversarialLabelsParameters,
    card=MethodCard(
        name="adversarial_labels",
        title="Adversarial samples",
        paper=YAO,
        equation="L = (1/N) Σ_n -log p(a_n), a_n = argmax over v ≠ label of p_teacher(v | the tokens before the label)",
        needs=("forget set", "teacher: once"),
        cost="3 forward units per forget batch, one teacher forward per forget row",
        passes=Passes(once_forget=1),
    ),
    stronger=stronger,
    gentler=gentler,
)
