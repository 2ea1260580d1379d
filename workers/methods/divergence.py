"""KL(p_teacher ‖ p_student) at the labelled tokens, fp32, a chunk of V-wide logits at a time.

    KL_n = Σ_v p_T(v)·(log p_T(v) - log p_S(v)),   ∂KL_n/∂z_S(v) = p_S(v) - p_T(v)

Zero exactly where both agree, unlike the cross-entropy that Yao et al.'s code calls KL.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from workers.methods.chunks import CHUNK_TOKENS, in_chunks
from workers.methods.head import Head


def divergences(student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
    """KL of each token, (N,)."""
    return F.kl_div(student_NV.log_softmax(1), teacher_NV.log_softmax(1), reduction="none", log_target=True).sum(1)


def teacher_divergences(
    student_ND: Tensor, student_head: Head, teacher_ND: Tensor, teacher_head: Head, chunk_tokens: int = CHUNK_TOKENS
) -> Tensor:
    """KL of each token, (N,), from hidden states; the teacher's get no gradient."""

    def part(hidden_nD: Tensor, frozen_nD: Tensor) -> Tensor:
        with torch.no_grad():
            teacher_nV = teacher_head(frozen_nD).float()
        return divergences(student_head(hidden_nD).float(), teacher_nV)

    return torch.cat(in_chunks(part, chunk_tokens, student_ND, teacher_ND))
