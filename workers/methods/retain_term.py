"""What holds the rest of the LLM in place while a method removes something: one term, added to any of them.

    nll:  Σ_n w_n·(-log p_student(label_n)) / Σ_n w_n           the labels of the retain rows
    kl:   Σ_n w_n·KL(p_teacher ‖ p_student)_n / Σ_n w_n         what the LLM said there before

Both over the labelled tokens of the retain rows alone: no prompts, no padding.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from workers.methods.answers import answers, states, weighted_mean
from workers.methods.divergence import teacher_divergences
from workers.methods.gradients import add_gradients
from workers.methods.head import live_head, require_known_head
from workers.methods.interface import Batch, Losses
from workers.methods.teacher import TeacherMemory

RetainKind = Literal["none", "nll", "kl"]


class RetainTerm:
    def __init__(self, kind: RetainKind, weight: float) -> None:
        self._kind, self.weight = kind, weight
        self._teacher: TeacherMemory | None = None

    @property
    def wanted(self) -> bool:
        return self._kind != "none" and self.weight > 0.0

    def prepare(self, teacher: Any, batches: Sequence[Batch]) -> None:
        if batches:
            require_known_head(teacher, batches[0].ids_BT, batches[0].mask_BT)
        if self._kind == "kl":
            rows = [part for batch in batches if (part := batch.of_role("retain")) is not None]
            self._teacher = TeacherMemory(teacher, rows)

    def loss(self, student: Any, batch: Batch | None) -> Tensor | None:
        """None without a batch or a wish for one."""
        if batch is None or not self.wanted:
            return None
        if self._kind == "nll":
            found = answers(student, batch)
            return weighted_mean(found.nll_N, found.weights_N)
        return self._divergence(student, batch)

    def add_gradients(self, losses: Losses, parameters: Sequence[Parameter]) -> None:
        """The gradient of forget + weight·retain."""
        parts = [] if losses.forget is None else [losses.forget]
        if losses.retain is not None:
            parts.append(self.weight * losses.retain)
        if parts:
            add_gradients(torch.stack(parts).sum(), parameters)

    def _divergence(self, student: Any, batch: Batch) -> Tensor:
        if self._teacher is None:
            raise RuntimeError("prepare must be called before losses: KL needs the teacher's states")
        found = states(student, batch)
        kl_N = teacher_divergences(found.hidden_ND, live_head(student), self._teacher.hidden(batch), self._teacher.head)
        return weighted_mean(kl_N, found.weights_N)
