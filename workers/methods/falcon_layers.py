"""FALCON's first step: which layer separates what is to be forgotten from what is to be kept?

The paper takes the layer of least mutual information between forget and retain states, I = H(F) + H(R) - H(F, R), by
kernel densities after a PCA that keeps 95 % of the variance. Evaluated at its own points such a density is ruled by
each point's own kernel, and H becomes

    H ≈ log n + (d/2)·log 2π + ½·log|Cov| - (d/(d + 4))·log n          d principal components, n rows

which is what is computed here. Rows of the two sets are paired at random, so no dependence is there to be measured;
and states s times as long change the value by (d_F + d_R - d_FR)·log s: it follows the states' length, which grows with
depth. Three criteria that know no scale are therefore computed beside it, and all of them are reported.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Criterion = Literal["mutual_information", "subspace_overlap", "gradient_conflict", "separability"]

KEPT_VARIANCE = 0.95
RIDGE = 0.1  # of the mean eigenvalue of the Gram matrix
FEWEST_ROWS = 4

# What is best of each: the least of what two sets share, the most of what tells them apart.
BEST = {"mutual_information": min, "subspace_overlap": min, "gradient_conflict": min, "separability": max}
WORDS = {
    "mutual_information": "least mutual information between forget and retain states, as the paper estimates it",
    "subspace_overlap": "least overlap of the principal subspaces of forget and retain states",
    "gradient_conflict": "least cosine between the gradients of the forget and the retain rows' likelihood",
    "separability": "best separation of forget and retain states by a linear probe, each row left out once",
}


def principal(rows_nD: Tensor) -> tuple[Tensor, Tensor]:
    """(variances_d, directions_Dd), strongest first: as few as keep 95 % of the variance. fp64."""
    centred_nD = rows_nD.double() - rows_nD.double().mean(0)
    _, strengths, directions_kD = torch.linalg.svd(centred_nD, full_matrices=False)
    variances = strengths.square() / (rows_nD.size(0) - 1)
    kept = variances.cumsum(0) / variances.sum()
    count = int((kept < KEPT_VARIANCE).sum()) + 1
    return variances[:count], directions_kD[:count].T


def entropy(rows_nD: Tensor) -> float:
    """H in nats, by the closed form above; nan if all rows are the same."""
    variances_d, _ = principal(rows_nD)
    if not bool((variances_d > 0).all()):
        return math.nan
    rows, d = rows_nD.size(0), variances_d.numel()
    volume = 0.5 * float(variances_d.log().sum())
    return math.log(rows) + d / 2 * math.log(2 * math.pi) + volume - d / (d + 4) * math.log(rows)


def mutual_information(forget_nD: Tensor, retain_nD: Tensor) -> float:
    """The paper's estimate in nats: the i-th forget row beside the i-th retain row. It can be below zero."""
    rows = min(forget_nD.size(0), retain_nD.size(0))
    both = torch.cat([forget_nD[:rows], retain_nD[:rows]], 1)
    return entropy(forget_nD) + entropy(retain_nD) - entropy(both)


def subspace_overlap(forget_nD: Tensor, retain_nD: Tensor) -> float:
    """‖U_Fᵀ·U_R‖² / min(d_F, d_R): 1 if the smaller principal subspace lies in the other, 0 if they are orthogonal."""
    _, forget_Dd = principal(forget_nD)
    _, retain_Dd = principal(retain_nD)
    return float((forget_Dd.T @ retain_Dd).square().sum()) / min(forget_Dd.size(1), retain_Dd.size(1))


def separability(forget_nD: Tensor, retain_nD: Tensor) -> float:
    """Balanced accuracy of a ridge classifier, each row judged by the probe fitted on all the others.

    Left-out answers come from one fit: y_i - ŷ_i / (1 - h_ii). Balanced, so 0.5 is chance for sets of any size.
    """
    states_nD = torch.cat([forget_nD, retain_nD]).double()
    labels_n = torch.cat([torch.ones(len(forget_nD)), -torch.ones(len(retain_nD))]).to(states_nD)
    with_bias_nD = torch.cat([states_nD - states_nD.mean(0), torch.zeros(len(states_nD), 1).to(states_nD)], 1)
    length = with_bias_nD.square().sum(1).mean().sqrt()
    with_bias_nD[:, -1] = length
    gram_nn = with_bias_nD @ with_bias_nD.T
    eye_nn = torch.eye(len(labels_n)).to(gram_nn)
    ridge = RIDGE * float(gram_nn.trace()) / len(labels_n)
    hat_nn = torch.linalg.solve(gram_nn + max(ridge, 1e-12) * eye_nn, gram_nn)
    left_out_n = labels_n - (labels_n - hat_nn @ labels_n) / (1 - hat_nn.diagonal())
    right_n = (left_out_n * labels_n > 0).double()
    return float((right_n[labels_n > 0].mean() + right_n[labels_n < 0].mean()) / 2)


@dataclass(frozen=True, slots=True)
class LayerValues:
    """One value per layer for each criterion, None where it could not be had; `length` is the mean ‖h‖."""

    values: Mapping[str, tuple[float | None, ...]]
    lengths: tuple[float, ...]

    def best(self, criterion: str) -> int | None:
        """The layer it would choose, the earliest of equals; None without a single value."""
        known = [(value, at) for at, value in enumerate(self.values[criterion]) if value is not None]
        if not known:
            return None
        wanted = BEST[criterion](value for value, _ in known)
        return next(at for value, at in known if value == wanted)


def layer_values(
    forget_LnD: Sequence[Tensor], retain_LnD: Sequence[Tensor], conflicts_L: Sequence[float | None]
) -> LayerValues:
    """`conflicts_L` are the gradient cosines, measured elsewhere since they need the whole LLM."""
    pairs = list(zip(forget_LnD, retain_LnD, strict=True))
    enough = all(min(len(forget), len(retain)) >= FEWEST_ROWS for forget, retain in pairs)
    measures = {
        "mutual_information": mutual_information,
        "subspace_overlap": subspace_overlap,
        "separability": separability,
    }
    values = {
        name: tuple(_finite(measure(forget, retain)) if enough else None for forget, retain in pairs)
        for name, measure in measures.items()
    }
    lengths = tuple(float(torch.cat(pair).norm(dim=1).mean()) for pair in pairs)
    return LayerValues(values | {"gradient_conflict": tuple(conflicts_L)}, lengths)


def choice_in_words(found: LayerValues, criterion: str, layer: int) -> str:
    """Why this layer, what the other criteria would have chosen, and what the paper's estimate is worth."""
    value = found.values[criterion][layer]
    text = f"layer {layer} of 0 to {len(found.lengths) - 1} was chosen: {WORDS[criterion]} ({value:.3g})"
    if criterion == "mutual_information":
        growth = found.lengths[-1] / max(found.lengths[0], 1e-12)
        text += f", an estimate that follows the length of the states, {growth:.2g} times longer at the last layer"
    return text + _others_in_words(found, criterion)


def taken_in_words(found: LayerValues, layer: int, why: str) -> str:
    """A layer that no criterion chose."""
    return f"layer {layer} of 0 to {len(found.lengths) - 1} was taken, {why}" + _others_in_words(found, "")


def _others_in_words(found: LayerValues, besides: str) -> str:
    best = [f"{name} {layer}" for name in BEST if name != besides and (layer := found.best(name)) is not None]
    return f"; by other criteria: {', '.join(best)}" if best else ""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
