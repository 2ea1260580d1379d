"""UnDIAL (Dong et al., NAACL 2025, arXiv:2402.10052): distil the teacher with the label's probability cut.

    L = Σ_n w_n·(CE(q_n, p_student) + λ·max(0, ln p_student(label) - ℓ_n)) / Σ_n w_n, labelled tokens n of forget rows
    q = softmax(z_teacher - γ·onehot(label))                      target "gamma", the paper
    q = teacher, the label cut to at most e^ℓ, rest scaled up       target "level"; "gamma" where no ℓ is known
    q = teacher, the label cut to at most `floor`, rest scaled up   target "floor"
    q = what the teacher says of others in this place               target "exchange" (`exchange.py`)

The paper has no λ and no ℓ. ℓ_n is what an LLM that never met it would give a label, where the row says so
(`workers/never_trained.py`). Cross-entropy alone stops seeing a label at p = 0.05, on average three nats above: λ pulls
it down to ℓ_n and not beyond. And γ pushes the words that any answer has as far down as those that give the fact away:
the target "level" leaves each where it would be.

The paper has no retain term; one is added here, because a sequence of requests ruins its neighbours without:
CE against the teacher on retain rows (`distill`) or their labels (`nll`). One γ cannot suit tokens of p =
.99 and of p = .999999; the floor suits both (Unilogit, arXiv:2505.06027, chooses 1/V). With "exchange", a row
whose question names nobody to put another in the place of is learnt as with "gamma".

The paper's focus variant is in the rows, not here: w_n is the row's weight times the label's own, and labels
outside a hard focus are no labels (`workers/focus.py`).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from workers.methods.exchange import exchange
from workers.methods.gradients import add_gradients
from workers.methods.head import hidden_states, live_head
from workers.methods.interface import Batch, Losses
from workers.methods.soft_labels import (
    OddsChange,
    Pull,
    floored,
    hard_label_loss,
    levelled,
    lowered,
    soft_label_loss,
    unchanged,
)
from workers.methods.teacher import TeacherMemory
from workers.methods.tokens import predicted_tokens

CHUNK_TOKENS = 512


class Undial:
    def __init__(
        self,
        *,
        target: Literal["gamma", "level", "floor", "exchange"] = "level",
        strength: float = 30.0,
        floor: float = 0.02,
        level_weight: float = 1.0,
        retain_kind: Literal["none", "nll", "distill"] = "distill",
        retain_weight: float = 12.0,
    ) -> None:
        self.chunk_tokens = CHUNK_TOKENS
        self._target, self._floor = target, floor
        self._change: OddsChange = {"floor": floored(floor), "level": levelled(strength)}.get(target, lowered(strength))
        self._level_weight = level_weight
        self._retain_kind = retain_kind
        self._retain_weight = retain_weight
        self._teacher: TeacherMemory | None = None
        self._exchanged: frozenset[int] = frozenset()

    @property
    def wants_retain(self) -> bool:
        return self._retain_kind != "none" and self._retain_weight > 0.0

    def prepare(self, teacher: Any, batches: Sequence[Batch], level: float) -> None:
        if self._target == "floor":
            # A target above the never-trained level could never be reached from above; half leaves it some way to go.
            self._change = floored(min(self._floor, level / 2))
        self._teacher = TeacherMemory(teacher, batches)
        if self._target == "exchange":
            self._exchanged = exchange(teacher, batches, self._teacher)

    def losses(self, student: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        return Losses(
            forget=None if forget is None else self._forgotten(student, forget),
            retain=None if retain is None or not self.wants_retain else self._retained(student, retain),
        )

    def backward(self, losses: Losses, parameters: Sequence[Parameter]) -> None:
        parts = [] if losses.forget is None else [losses.forget]
        if losses.retain is not None:
            parts.append(self._retain_weight * losses.retain)
        if parts:
            add_gradients(torch.stack(parts).sum(), parameters)

    def _forgotten(self, student: Any, batch: Batch) -> Tensor:
        """Rows whose states are the others' are learnt as they are, the rest with the label's odds changed."""
        hidden_BTD = hidden_states(student, batch.ids_BT, batch.mask_BT)
        others = [at for at, key in enumerate(batch.keys) if key in self._exchanged]
        own = [at for at, key in enumerate(batch.keys) if key not in self._exchanged]
        losses = [
            self._distilled(student, hidden_BTD[rows], part, change, self._level_weight)
            * (part.token_weight / batch.token_weight)
            for rows, change in ((own, self._change), (others, unchanged))
            if (part := batch.only(rows)) is not None
        ]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _retained(self, student: Any, batch: Batch) -> Tensor:
        hidden_BTD = hidden_states(student, batch.ids_BT, batch.mask_BT)
        if self._retain_kind == "distill":
            return self._distilled(student, hidden_BTD, batch, unchanged)
        student_ND, targets_N, weights_N, _ = _labelled(hidden_BTD, batch)
        return hard_label_loss(student_ND, live_head(student), targets_N, weights_N, self.chunk_tokens)

    def _distilled(
        self, student: Any, hidden_BTD: Tensor, batch: Batch, change: OddsChange, level_weight: float = 0.0
    ) -> Tensor:
        if self._teacher is None:
            raise RuntimeError("prepare must be called before losses: UnDIAL needs its teacher's states")
        student_ND, targets_N, weights_N, levels_N = _labelled(hidden_BTD, batch)
        return soft_label_loss(
            student_ND,
            live_head(student),
            self._teacher.hidden(batch),
            self._teacher.head,
            targets_N,
            weights_N,
            change,
            self.chunk_tokens,
            None if levels_N is None else Pull(levels_N, level_weight),
        )


def _labelled(hidden_BTD: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    tokens = predicted_tokens(batch.labels_BT)
    weights_N = batch.label_weights(tokens.rows_N, tokens.columns_N)
    levels_N = batch.label_levels(tokens.rows_N, tokens.columns_N)
    return hidden_BTD[tokens.rows_N, tokens.columns_N], tokens.targets_N, weights_N, levels_N
