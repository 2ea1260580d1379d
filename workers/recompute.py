"""Gradient checkpointing (Chen et al., 2016, arXiv:1604.06174): keep each layer's input alone, compute the rest again.

Memory falls from every activation to one state per layer and token, for one more forward pass of the layers. Hugging
Face's own switch works in training mode alone, which would turn dropout on; here the layers stay in evaluation mode.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from workers.methods.layers import decoder_layers


@contextmanager
def recomputed_layers(llm: Any) -> Iterator[None]:
    """Meanwhile, every decoder layer that runs under gradient forgets its activations and computes them again.

    Raises UnsuitableError for an LLM whose layers are not known.
    """
    layers = list(decoder_layers(llm))
    for layer in layers:
        layer.forward = _recomputing(layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the instance's own: the class's is back


def _recomputing(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
