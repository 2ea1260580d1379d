"""When two gradients disagree: what each says, how far they conflict, and what remains of one without the other.

    u⊥ = u - (⟨u, r⟩ / ⟨r, r⟩)·r      if ⟨u, r⟩ < 0, else u            (PCGrad's projection, one-sided)

A gradient is a list of tensors, one a trained matrix. The projection is taken for each tensor by itself or for all of
them as one vector; the two are different methods, not two precisions of one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Gradient = Sequence[Tensor]


def dot(one: Gradient, other: Gradient) -> Tensor:
    """⟨one, other⟩ over all tensors as one vector, a scalar in fp64."""
    return torch.stack([(a.double() * b.double()).sum() for a, b in zip(one, other, strict=True)]).sum()


def cosine(one: Gradient, other: Gradient) -> Tensor:
    """Scalar in fp64; 0 if either gradient is zero: nothing conflicts with nothing."""
    lengths = (dot(one, one) * dot(other, other)).sqrt()
    return torch.where(lengths > 0, dot(one, other) / lengths.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def without(one: Gradient, other: Gradient) -> list[Tensor]:
    """What of `one` is orthogonal to `other`, in the dtype of `one`; all of it if `other` is zero."""
    length = dot(other, other)
    share = torch.where(length > 0, dot(one, other) / length.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    return [(a.double() - share * b.double()).to(a.dtype) for a, b in zip(one, other, strict=True)]
