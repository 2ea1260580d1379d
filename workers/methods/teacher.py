"""What the teacher says about the labelled tokens, asked once.

Kept are its final hidden states of those positions and one frozen copy of its head: D numbers a token
instead of V, and exact, since the data do not change between epochs and nothing drops out.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from workers.methods.head import ScaledHead, frozen_head, hidden_states, require_known_head
from workers.methods.interface import Batch
from workers.methods.tokens import predicted_tokens


class TeacherMemory:
    """`hidden(batch)` is row-major over the batch's labelled tokens, as `predicted_tokens` counts them."""

    def __init__(self, teacher: Any, batches: Sequence[Batch]) -> None:
        if batches:
            require_known_head(teacher, batches[0].ids_BT, batches[0].mask_BT)
        self.head: ScaledHead = frozen_head(teacher)
        self._hidden_nD: dict[int, Tensor] = {}
        for batch in batches:
            self._remember(teacher, batch)

    def hidden(self, batch: Batch) -> Tensor:
        device = batch.ids_BT.device
        return torch.cat([self._hidden_nD[key] for key in batch.keys]).to(device)

    def replace(self, key: int, which_N: Tensor, hidden_nD: Tensor) -> None:
        """From now on these states stand for those labelled tokens of a row where `which_N` is true, in their order."""
        self._hidden_nD[key][which_N] = hidden_nD.to("cpu", self._hidden_nD[key].dtype)

    def _remember(self, teacher: Any, batch: Batch) -> None:
        tokens = predicted_tokens(batch.labels_BT)
        with torch.no_grad():
            hidden_BTD = hidden_states(teacher, batch.ids_BT, batch.mask_BT)
        hidden_ND = hidden_BTD[tokens.rows_N, tokens.columns_N].to("cpu", copy=True)
        for row, key in enumerate(batch.keys):
            self._hidden_nD[key] = hidden_ND[(tokens.rows_N == row).cpu()]
