"""Unlearning algorithms: tensors in, gradients out. One file each; no database, no queue, no records."""

from collections.abc import Callable

from workers.methods.adversarial_labels import adversarial_labels
from workers.methods.ascent_descent import ascent_descent
from workers.methods.ascent_kl import ascent_kl
from workers.methods.ce_u import ce_u
from workers.methods.falcon import Falcon
from workers.methods.gradient_ascent import gradient_ascent
from workers.methods.idk_dpo import idk_dpo
from workers.methods.interface import Method
from workers.methods.npo import npo
from workers.methods.random_labels import random_labels
from workers.methods.rmu import Rmu
from workers.methods.simnpo import simnpo
from workers.methods.undial import Undial
from workers.methods.wga import wga

METHODS: dict[str, Callable[..., Method]] = {
    "undial": Undial,
    "gradient_ascent": gradient_ascent,
    "random_labels": random_labels,
    "adversarial_labels": adversarial_labels,
    "ascent_descent": ascent_descent,
    "ascent_descent_general": ascent_descent,
    "ascent_kl": ascent_kl,
    "ascent_kl_general": ascent_kl,
    "npo": npo,
    "simnpo": simnpo,
    "idk_dpo": idk_dpo,
    "ce_u": ce_u,
    "wga": wga,
    "rmu": Rmu,
    "falcon": Falcon,
}
