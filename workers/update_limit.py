"""A ball around the weights that a job starts from, one for each trained tensor, which no step leaves.

    W ← W₀ + (W - W₀)·min(1, limit·‖W₀‖ / ‖W - W₀‖)            Frobenius norms

That is the projection on ‖W - W₀‖ ≤ limit·‖W₀‖, taken after each of the optimiser's steps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from workers.sharding import whole

ROUND_OFF = 1e-3


def within(weights: Tensor, base: Tensor, limit: float) -> Tensor:
    """The nearest weights inside the ball; `weights` themselves, to the bit, if they are inside."""
    share = radius(base, limit) / distance(weights, base).clamp(min=torch.finfo(base.dtype).tiny)
    return torch.lerp(base, weights, share.clamp(max=1.0))


def radius(base: Tensor, limit: float) -> Tensor:
    """limit·‖W₀‖, a scalar: 0 for weights that start at zero, which then stay there."""
    return limit * whole(base.norm())


def distance(weights: Tensor, base: Tensor) -> Tensor:
    """‖W - W₀‖, a scalar."""
    return whole((weights - base).norm())


class UpdateLimit:
    """Keeps one copy of the parameters as they are now, beside them."""

    def __init__(self, parameters: Sequence[Parameter], limit: float) -> None:
        self._limit = limit
        self._pairs = [(one, one.detach().clone()) for one in parameters]

    @torch.no_grad()
    def hold(self) -> None:
        """Put every parameter back into its ball."""
        for parameter, base in self._pairs:
            parameter.copy_(within(parameter, base, self._limit))

    @torch.no_grad()
    def note(self) -> str:
        """How many would have gone farther, in words."""
        held = sum(
            bool(distance(one, base) >= (1 - ROUND_OFF) * radius(base, self._limit)) for one, base in self._pairs
        )
        return f"{held} of {len(self._pairs)} trained tensors ended at the update limit of {self._limit:g}"
