"""Unlearning algorithms: tensors in, gradients out. One file each; no database, no queue, no records."""

from collections.abc import Callable

from workers.methods.adversarial_labels import make_adversarial_labels
from workers.methods.ascent_descent import make_ascent_descent
from workers.methods.ascent_kl import make_ascent_kl
from workers.methods.ce_u import make_ce_u
from workers.methods.falcon import Falcon
from workers.methods.gradient_ascent import make_gradient_ascent
from workers.methods.idk_dpo import make_idk_dpo
from workers.methods.interface import Method
from workers.methods.npo import make_npo
from workers.methods.random_labels import make_random_labels
from workers.methods.rmu import Rmu
from workers.methods.simnpo import make_simnpo
from workers.methods.undial import Undial
from workers.methods.wga import make_wga

METHODS: dict[str, Callable[..., Method]] = {
    "undial": Undial,
    "gradient_ascent": make_gradient_ascent,
    "random_labels": make_random_labels,
    "adversarial_labels": make_adversarial_labels,
    "ascent_descent": make_ascent_descent,
    "ascent_descent_general": make_ascent_descent,
    "ascent_kl": make_ascent_kl,
    "ascent_kl_general": make_ascent_kl,
    "npo": make_npo,
    "simnpo": make_simnpo,
    "idk_dpo": make_idk_dpo,
    "ce_u": make_ce_u,
    "wga": make_wga,
    "rmu": Rmu,
    "falcon": Falcon,
}
