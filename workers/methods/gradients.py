"""When two gradients disagree: what each says, how far they conflict, and what remains of one without the other.

    u⊥ = u - (⟨u, r⟩ / ⟨r, r⟩)·r      if ⟨u, r⟩ < 0, else u            (PCGrad's projection, one-sided)

A gradient is a list of tensors, one a trained matrix. The projection is taken for each tensor by itself or for all of
them as one vector; the two are different methods, not two precisions of one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

Gradient = Sequence[Tensor]


def add_gradients(loss: Tensor, parameters: Sequence[Parameter]) -> None:
    """To the parameters' `.grad`. Of a matrix divided among processes the graph knows only what was gathered of it."""
    if any(isinstance(one, DTensor) for one in parameters):
        loss.backward()
    else:
        loss.backward(inputs=list(parameters))


def dot(one: Gradient, other: Gradient) -> Tensor:
    """⟨one, other⟩ over all tensors as one vector, a scalar in fp64."""
    return torch.stack([_dot(a, b) for a, b in zip(one, other, strict=True)]).sum()


def _dot(one: Tensor, other: Tensor) -> Tensor:
    product = (one.double() * other.double()).sum()
    return product.full_tensor() if isinstance(product, DTensor) else product


def cosine(one: Gradient, other: Gradient) -> Tensor:
    """Scalar in fp64; 0 if either gradient is zero: nothing conflicts with nothing."""
    lengths = (dot(one, one) * dot(other, other)).sqrt()
    return torch.where(lengths > 0, dot(one, other) / lengths.clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def without(one: Gradient, other: Gradient) -> list[Tensor]:
    """What of `one` is orthogonal to `other`, in the dtype of `one`; all of it if `other` is zero."""
    length = dot(other, other)
    share = torch.where(length > 0, dot(one, other) / length.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    return [(a.double() - share * b.double()).to(a.dtype) for a, b in zip(one, other, strict=True)]
