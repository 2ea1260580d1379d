"""Which position predicts which label: the shift by one and the dropping of unlabelled positions, once
for all.

A causal LLM's state at position t predicts token t + 1. Methods and metrics only ever see the N labelled
tokens, so none of them can average over padding or train on a prompt.
"""

from dataclasses import dataclass

from torch import Tensor

UNLABELLED = -100


@dataclass(frozen=True, slots=True)
class PredictedTokens:
    """Row-major: all tokens of row 0 in order, then row 1… `columns_N` is the predicting position."""

    rows_N: Tensor
    columns_N: Tensor
    targets_N: Tensor


def predicted_tokens(labels_BT: Tensor) -> PredictedTokens:
    """Labels aligned with their inputs in; position t of the answer predicts `labels_BT[:, t + 1]`."""
    next_BT = labels_BT[:, 1:]
    rows_N, columns_N = (next_BT != UNLABELLED).nonzero(as_tuple=True)
    return PredictedTokens(rows_N, columns_N, next_BT[rows_N, columns_N])
