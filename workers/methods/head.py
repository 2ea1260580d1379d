"""From token ids to hidden states to logits, for any Hugging Face causal LLM, with the head applied where
it counts.

The body's last hidden state (after the final norm) is computed for every position; the V-wide head only
for the labelled ones. Some architectures do more than one matmul there: Gemma caps, Granite divides,
Cohere multiplies. `check_head` compares with the LLM's own logits, so that an unknown one is refused
instead of trained wrongly.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Head = Callable[[Tensor], Tensor]
CHECKED_ROWS, CHECKED_TOKENS = 2, 256


class UnknownHeadError(ValueError):
    """The architecture turns hidden states into logits in a way this file does not know."""


def hidden_states(llm: Any, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T, D) after the final norm: exactly what the head reads. Rows are padded on the right.

    Raises UnknownHeadError for an LLM whose body does not give them.
    """
    output = _body(llm)(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
    if not hasattr(output, "last_hidden_state"):
        raise UnknownHeadError(
            f"the body of {type(llm).__name__} does not give its last hidden state; this architecture needs an entry "
            "in workers/methods/head.py"
        )
    return output.last_hidden_state


@dataclass(frozen=True)
class ScaledHead:
    """logits = cap·tanh(scale·linear(h) / cap), in fp32; no cap if None."""

    linear: nn.Module
    scale: float = 1.0
    cap: float | None = None

    def __call__(self, hidden_ND: Tensor) -> Tensor:
        logits_NV = self.linear(hidden_ND).float()
        if self.scale != 1.0:
            logits_NV = logits_NV * self.scale
        if self.cap is not None:
            logits_NV = self.cap * torch.tanh(logits_NV / self.cap)
        return logits_NV


def live_head(llm: Any) -> ScaledHead:
    """The LLM's own head: gradients reach its weights."""
    return ScaledHead(llm.get_output_embeddings(), _scale(llm), _config(llm, "final_logit_softcapping"))


def frozen_head(llm: Any) -> ScaledHead:
    """A copy that stays as it is now, whatever becomes of the LLM, tied or untied. Costs V·D numbers."""
    live = live_head(llm)
    linear = copy.deepcopy(live.linear).requires_grad_(requires_grad=False)
    return ScaledHead(linear, live.scale, live.cap)


def check_head(llm: Any, ids_BT: Tensor, mask_BT: Tensor) -> bool:
    """Whether body + head reproduce the LLM's own logits on these rows, to round-off of its dtype."""
    with torch.no_grad():
        ours_BTV = live_head(llm)(hidden_states(llm, ids_BT, mask_BT))
        theirs_BTV = llm(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits.float()
    exact = llm.dtype == torch.float32 and not torch.is_autocast_enabled(llm.device.type)
    tolerance = 1e-4 if exact else 0.05
    real_BT = mask_BT.bool()
    # An LLM that gives no numbers is broken, and told so elsewhere; its head is as known as ever.
    return torch.allclose(ours_BTV[real_BT], theirs_BTV[real_BT], rtol=tolerance, atol=tolerance, equal_nan=True)


def require_known_head(llm: Any, ids_BT: Tensor, mask_BT: Tensor) -> None:
    """Raises UnknownHeadError unless `check_head` holds on the first of these rows.

    A few tokens tell as much as all: the logits of a whole batch at a large vocabulary would be tens of gigabytes.
    """
    few = slice(CHECKED_ROWS), slice(CHECKED_TOKENS)
    if not check_head(llm, ids_BT[few], mask_BT[few]):
        raise UnknownHeadError(
            "the LLM's logits are not its output embedding applied to its last hidden state; "
            "this architecture needs an entry in workers/methods/head.py"
        )


def _body(llm: Any) -> Any:
    """Llama 4 takes the whole of itself for its own body."""
    body = llm.base_model
    return getattr(llm, "model", llm) if body is llm else body


def _config(llm: Any, name: str) -> Any:
    return getattr(llm.config.get_text_config(), name, None)


def _scale(llm: Any) -> float:
    divisor = _config(llm, "logits_scaling")
    factor = _config(llm, "logit_scale")
    return (1.0 / divisor if divisor else 1.0) * (factor or 1.0)
