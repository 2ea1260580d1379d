"""FALCON's principal offset vector (arXiv:2502.01472, eq. 8): where the forget rows' states are to be led.

H (P × D) are the frozen states of the forget rows, v_1 … v_K their principal directions, S_1 ≥ S_2 ≥ … the singular
values. The paper describes, and `projector` is,

    o = r·(I - Σ_{i≤K} v_i·v_iᵀ), then o / ‖o‖         r random: orthogonal to what the forget states have in common

The released code is another thing, kept here as `amplifier` for comparison: I + 1000·Σ σ(S_i/S_1)·v_i·v_iᵀ, tanh of
each entry, and six power iterations from the all-ones vector. It ends mostly inside the principal subspace.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workers.methods.layers import UnsuitableError

OffsetKind = Literal["projector", "amplifier", "random"]

PAPER_SHARE = 1000 / 4096  # K of the paper over the width of the LLMs in it
SMALLEST = 1e-6  # singular values below this share of the first are round-off


@dataclass(frozen=True, slots=True)
class Subspace:
    """`directions_DK` are orthonormal columns, strongest first, fp64; `strengths_K` their singular values."""

    directions_DK: Tensor
    strengths_K: Tensor
    rank: int

    def energy(self, unit_D: Tensor) -> float:
        """Share of a unit vector's square that lies inside: ‖Vᵀo‖². K / D for a random one."""
        return float((self.directions_DK.T @ unit_D.to(self.directions_DK)).square().sum())


def principal_subspace(states: Iterable[Tensor], count: int | None) -> Subspace:
    """From parts (P, D) of H, of which only the D × D Gram matrix is kept. `count` None: the paper's share of D.

    Raises UnsuitableError if `count` directions would fill the space, so that nothing could be orthogonal to them.
    """
    gram_DD = torch.zeros(0, 0, dtype=torch.float64)
    for part_PD in states:
        part = part_PD.double().T @ part_PD.double()
        gram_DD = part if gram_DD.numel() == 0 else gram_DD + part
    width = gram_DD.size(0)
    wanted = max(1, round(PAPER_SHARE * width)) if count is None else count
    if wanted >= width:
        raise UnsuitableError(
            f"principal_directions is {wanted}, but the LLM's states have {width} dimensions: choose fewer, "
            "so that a direction is left outside"
        )
    values_D, vectors_DD = torch.linalg.eigh(gram_DD)
    strengths_D = values_D.flip(0).clamp(min=0.0).sqrt()
    rank = int((strengths_D > SMALLEST * strengths_D[0]).sum())
    kept = min(wanted, rank)
    return Subspace(vectors_DD.flip(1)[:, :kept].contiguous(), strengths_D[:kept], rank)


def offset_vector(subspace: Subspace, kind: OffsetKind, seed: int) -> Tensor:
    """o (D,), of length 1, fp32, on the CPU; the same for the same seed on every machine."""
    generator = torch.Generator().manual_seed(seed)
    directions_DK = subspace.directions_DK.cpu()
    if kind == "amplifier":
        return _amplified(directions_DK, subspace.strengths_K.cpu(), generator).float()
    offset_D = torch.randn(directions_DK.size(0), generator=generator, dtype=torch.float64)
    if kind == "projector":
        for _ in range(2):  # the second pass removes what round-off left of the first
            offset_D = offset_D - directions_DK @ (directions_DK.T @ offset_D)
    return (offset_D / offset_D.norm()).float()


def _amplified(directions_DK: Tensor, strengths_K: Tensor, generator: torch.Generator) -> Tensor:
    weights_K = 1000.0 * torch.sigmoid(strengths_K / strengths_K[0])
    width = directions_DK.size(0)
    mixing_DD = torch.eye(width, dtype=torch.float64) + (directions_DK * weights_K) @ directions_DK.T
    noise_DD = torch.randn(width, width, generator=generator, dtype=torch.float64)
    mixing_DD = torch.tanh(mixing_DD + 0.01 * noise_DD)
    offset_D = torch.full((width,), width**-0.5, dtype=torch.float64)
    for _ in range(6):
        offset_D = torch.tanh(offset_D @ mixing_DD)
        offset_D = offset_D / (offset_D.norm() + 1e-6)
    return offset_D / offset_D.norm()
