"""Cross-entropy against the teacher's distribution with the label's odds changed, without V-wide targets.

For a token with label y let r be the teacher's distribution over the other words (it sums to 1 without
y), and let o = log p(y) - log Σ_{v≠y} p(v) be the label's log-odds. Every target used here is

    q(y) = b,   q(v) = (1 - b)·r(v) for v ≠ y,   b = sigmoid(o')

and differs only in o': o - γ is softmax(z - γ·onehot(y)), UnDIAL's target (arXiv:2402.10052, eq. 3);
min(o, logit(f)) cuts the label to at most f, min(o, logit(e^ℓ)) to what an LLM would make of it that
never met it; o is the teacher itself (distillation); -∞ removes the label. Written with log-odds, a
token of p = 0.9999999 loses no digits, which 1 / (1 - k·p) in fp32 would.

    L = Σ_n w_n·(lse(z) - b·z(y) - (1 - b)·Σ_{v≠y} r(v)·z(v) + λ·max(0, ln p_student(y) - ℓ_n)) / Σ_n w_n
    ∂L_n/∂z(v) = p_student(v) - q(v) + λ·1[ln p_student(y) > ℓ_n]·(1[v=y] - p_student(v))

The last term pulls: once a label is unlikely the cross-entropy no longer sees it, and it stays far likelier than ℓ_n.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from workers.methods.chunks import in_chunks
from workers.methods.head import Head

OddsChange = Callable[[Tensor, Tensor], Tensor]
"""o' of the log-odds o (N,) and the levels ℓ (N,), which are 0 where none is known."""


def lowered(strength: float) -> OddsChange:
    """o' = o - γ."""
    return lambda odds_N, _levels_N: odds_N - strength


def floored(floor: float) -> OddsChange:
    """o' = min(o, logit(floor)): the label keeps at most `floor` of the probability."""
    ceiling = torch.logit(torch.tensor(floor, dtype=torch.float64)).item()
    return lambda odds_N, _levels_N: odds_N.clamp(max=ceiling)


def levelled(strength: float) -> OddsChange:
    """o' = min(o, logit(e^ℓ)): the label keeps at most e^ℓ of the probability; o - γ where no ℓ is known."""

    def change(odds_N: Tensor, levels_N: Tensor) -> Tensor:
        ceilings_N = levels_N - torch.log(-torch.expm1(levels_N))
        return torch.where(levels_N < 0.0, torch.minimum(odds_N, ceilings_N), odds_N - strength)

    return change


def unchanged(odds_N: Tensor, _levels_N: Tensor) -> Tensor:
    """o' = o: plain distillation."""
    return odds_N


@dataclass(frozen=True, slots=True)
class Pull:
    """Where each label is pulled to, ℓ_n (N,), and how hard, λ."""

    levels_N: Tensor
    weight: float


class _SoftLabelLoss(torch.autograd.Function):
    """Per-token loss of given logits. The gradient needs two softmaxes and no other V-wide tensor."""

    @staticmethod
    def forward(  # an autograd function takes what it needs one by one
        ctx: Any,
        logits_NV: Tensor,
        teacher_NV: Tensor,
        targets_N: Tensor,
        change: OddsChange,
        levels_N: Tensor,
        weight: float,
    ) -> Tensor:
        targets_N1 = targets_N.unsqueeze(1)
        label_N = teacher_NV.gather(1, targets_N1).squeeze(1)
        rest_NV = teacher_NV.scatter_(1, targets_N1, -torch.inf)  # the caller's buffer, made for this call
        lse_rest_N = rest_NV.logsumexp(1)
        odds_N = change(label_N - lse_rest_N, levels_N)
        others_NV = rest_NV.sub_(lse_rest_N.unsqueeze(1)).exp_()
        keep_N, share_N = torch.sigmoid(odds_N), torch.sigmoid(-odds_N)
        lse_N = logits_NV.logsumexp(1)
        above_N = lse_N - logits_NV.gather(1, targets_N1).squeeze(1)
        # Differences to lse are summed, not raw logits: Σ q = 1, and small terms keep their digits.
        others_N = (others_NV * (lse_N.unsqueeze(1) - logits_NV)).sum(1)
        pull_N = weight * (-above_N > levels_N)
        ctx.save_for_backward(logits_NV, others_NV, targets_N1, lse_N, keep_N - pull_N, share_N, 1 - pull_N)
        return keep_N * above_N + share_N * others_N - pull_N * (above_N + levels_N)

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Tensor, None, None, None, None, None]:
        logits_NV, others_NV, targets_N1, lse_N, keep_N, share_N, left_N = ctx.saved_tensors
        gradient_NV = (logits_NV - lse_N.unsqueeze(1)).exp_().mul_(left_N.unsqueeze(1))
        gradient_NV.addcmul_(others_NV, share_N.unsqueeze(1), value=-1.0)
        gradient_NV.scatter_add_(1, targets_N1, -keep_N.unsqueeze(1))
        return gradient_NV.mul_(upstream[0].unsqueeze(1)), None, None, None, None, None


def soft_label_losses(
    logits_NV: Tensor, teacher_NV: Tensor, targets_N: Tensor, change: OddsChange, pull: Pull | None = None
) -> Tensor:
    """Loss of each token (N,), fp32. `teacher_NV` is not modified; its gradient is never taken."""
    levels_N, weight = _pulled(pull, logits_NV)
    teacher_NV = teacher_NV.detach().float().clone()
    return _SoftLabelLoss.apply(logits_NV.float(), teacher_NV, targets_N, change, levels_N, weight)


def _pulled(pull: Pull | None, like_ND: Tensor) -> tuple[Tensor, float]:
    return (like_ND.new_zeros(len(like_ND), dtype=torch.float32), 0.0) if pull is None else (pull.levels_N, pull.weight)


def soft_label_loss(  # two sides of hidden states and heads, and what is made of them
    student_ND: Tensor,
    student_head: Head,
    teacher_ND: Tensor,
    teacher_head: Head,
    targets_N: Tensor,
    weights_N: Tensor,
    change: OddsChange,
    chunk_tokens: int,
    pull: Pull | None = None,
) -> Tensor:
    """Weighted mean over N, at most `chunk_tokens` rows of V-wide logits alive at once, in backward too."""

    levels_N, weight = _pulled(pull, student_ND)

    def part(hidden_nD: Tensor, frozen_nD: Tensor, targets_n: Tensor, weights_n: Tensor, levels_n: Tensor) -> Tensor:
        with torch.no_grad():
            teacher_nV = teacher_head(frozen_nD).float()
        losses_n = _SoftLabelLoss.apply(
            student_head(hidden_nD).float(), teacher_nV, targets_n, change, levels_n, weight
        )
        return (losses_n * weights_n).sum()

    return _chunked(part, chunk_tokens, weights_N, student_ND, teacher_ND, targets_N, weights_N, levels_N)


def hard_label_loss(
    student_ND: Tensor, student_head: Head, targets_N: Tensor, weights_N: Tensor, chunk_tokens: int
) -> Tensor:
    """Weighted mean of -log p(label), chunked in the same way."""

    def part(hidden_nD: Tensor, targets_n: Tensor, weights_n: Tensor) -> Tensor:
        losses_n = F.cross_entropy(student_head(hidden_nD).float(), targets_n, reduction="none")
        return (losses_n * weights_n).sum()

    return _chunked(part, chunk_tokens, weights_N, student_ND, targets_N, weights_N)


def _chunked(part: Callable[..., Tensor], chunk_tokens: int, weights_N: Tensor, *per_token: Tensor) -> Tensor:
    parts = in_chunks(part, chunk_tokens, *per_token)
    total = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
    return total / weights_N.sum()
