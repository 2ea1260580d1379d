"""Two gradients made one step: the forget gradient gives way where it would undo the retain one.

    g = a·u⊥ + b·r          u⊥ = u - (⟨u, r⟩/⟨r, r⟩)·r if ⟨u, r⟩ < 0, else u

u is the gradient of the forget loss, r that of the weighted retain loss. a = b = 1 is PCGrad's projection (Yu et al.,
NeurIPS 2020, arXiv:2001.06782) of one side alone: nothing is taken from r. Other shares are FALCON's (eq. 13-14 of
arXiv:2502.01472).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from workers.methods.gradients import cosine, dot, without

Scope = Literal["global", "tensor", "off"]
Shares = tuple[float, float]
WHOLE: Shares = (1.0, 1.0)
# What is left in fp32 of a retain gradient that is zero, as at the first step of a distance to the LLM as it was: 1e-7
# to 4e-6 of the forget gradient, and 1e-3 or more a step later. Its direction is chance, and so would be what it took.
ROUND_OFF = 1e-5


@dataclass(frozen=True, slots=True)
class Rule:
    """`scope`: conflict is judged over all tensors as one vector, for each by itself, or never. `conflicting` and
    `agreeing` are the (a, b) of gradients whose cosine is below zero, and of all others.
    """

    scope: Scope
    conflicting: Shares = WHOLE
    agreeing: Shares = WHOLE


def resolve(forget: Sequence[Tensor], retain: Sequence[Tensor], rule: Rule) -> list[Tensor]:
    """g, tensor by tensor."""
    if rule.scope == "tensor":
        return [_resolve_one([u], [r], rule)[0] for u, r in zip(forget, retain, strict=True)]
    return _resolve_one(forget, retain, rule)


def _resolve_one(forget: Sequence[Tensor], retain: Sequence[Tensor], rule: Rule) -> list[Tensor]:
    conflict = _conflict(forget, retain)
    a, b = rule.conflicting if conflict else rule.agreeing
    kept = without(forget, retain) if conflict and rule.scope != "off" else forget
    return [a * u + b * r for u, r in zip(kept, retain, strict=True)]


def _conflict(forget: Sequence[Tensor], retain: Sequence[Tensor]) -> bool:
    counts = dot(retain, retain) >= ROUND_OFF**2 * dot(forget, forget)
    return bool(counts & (cosine(forget, retain) < 0))
