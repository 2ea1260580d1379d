"""V-wide logits a few tokens at a time, in the forward pass and again in the backward pass."""

from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_TOKENS = 512


def in_chunks(part: Callable[..., Tensor], chunk_tokens: int, *per_token: Tensor) -> list[Tensor]:
    """`part` of each consecutive piece of at most `chunk_tokens` tokens; if several, computed again in backward."""
    pieces = list(zip(*(tensor.split(chunk_tokens) for tensor in per_token), strict=True))
    if len(pieces) == 1:
        return [part(*pieces[0])]
    return [checkpoint(part, *piece, use_reentrant=False) for piece in pieces]
