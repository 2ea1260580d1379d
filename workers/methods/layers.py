"""Find an LLM's decoder layers and the matrices in them by structure and name, never by position in a list.

Llama's `mlp.down_proj`, GPT-2's `mlp.c_proj`, GPT-NeoX's `mlp.dense_4h_to_h` and Phi's `mlp.fc2` are one thing: the
matrix through which the feed-forward block writes into the residual stream. MLP_OUTPUT stands for it; in a mixture of
experts for those of all experts, which are one weight of three dimensions, and that of the expert every token passes.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from torch import nn

MLP_OUTPUT = "mlp-output"
_KNOWN_OUTPUTS = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "w2", "output_linear")
_BLOCK_NAMES = ("mlp", "feed_forward", "ffn", "ff", "block_sparse_moe")
_EXPERT_NAMES = ("experts", "shared_expert", "shared_experts", "shared_mlp")


class UnsuitableError(ValueError):
    """This LLM lacks a layer, a matrix or a direction that the parameters ask for, or its structure is not known."""


def decoder_layers(llm: Any) -> nn.ModuleList:
    """The layers in order: the one list in the LLM's body that is as long as its configuration says."""
    count = llm.config.get_text_config().num_hidden_layers
    lists = [one for one in llm.base_model.modules() if isinstance(one, nn.ModuleList) and len(one) == count]
    of_one_kind = [one for one in lists if len({type(layer) for layer in one}) == 1]
    # A list that lies in a layer of another list is a part of a layer, such as its experts.
    inside = {id(part) for one in of_one_kind for layer in one for part in layer.modules()}
    found = [one for one in of_one_kind if id(one) not in inside]
    if len(found) != 1:
        raise UnsuitableError(
            f"{type(llm).__name__} has {len(found)} lists of {count} layers, not one; this architecture "
            "needs an entry in workers/methods/layers.py, or what needs no layers: the method undial, tuning full or "
            "lora, no gradient_checkpointing"
        )
    return found[0]


def mlp_output_names(layer: nn.Module) -> tuple[str, ...]:
    """Names, within the layer, of the weights that end its feed-forward block: one, or a mixture of experts' own."""
    places = _places(layer)
    found = [f"{prefix}{one}" for prefix, place in places.items() for one in _weights(place) if one in _KNOWN_OUTPUTS]
    if len(found) != len(places):
        raise UnsuitableError(
            f"{type(layer).__name__} has {len(found)} matrices that look like the output of its feed-forward "
            f"block, not {len(places)}: name the modules to train in trained_modules, such as self_attn.o_proj"
        )
    return tuple(found)


def weight_names(llm: Any, layers: Sequence[int], modules: Sequence[str]) -> tuple[str, ...]:
    """Full parameter names of the `modules`' weights in these layers; MLP_OUTPUT is resolved for each layer."""
    every = decoder_layers(llm)
    outside = [at for at in layers if not 0 <= at < len(every)]
    if outside:
        raise UnsuitableError(f"layer {outside[0]} does not exist: the LLM has layers 0 to {len(every) - 1}")
    names = {id(parameter): name for name, parameter in llm.named_parameters()}
    wanted = [weight for at in sorted(set(layers)) for module in modules for weight in _named(every[at], module, at)]
    return tuple(dict.fromkeys(names[id(weight)] for weight in wanted))


def module_numbers(llm: Any) -> dict[str, int]:
    """By all that trained_modules may name: how many numbers it has in the layer where it has most."""
    most: dict[str, int] = {}
    for layer in decoder_layers(llm):
        own = {name: one.numel() for name, one in _weights(layer).items()}
        with suppress(UnsuitableError):
            own[MLP_OUTPUT] = sum(own[name] for name in mlp_output_names(layer))
        most |= {name: max(count, most.get(name, 0)) for name, count in own.items()}
    return most


def layer_prefix(llm: Any, at: int) -> str:
    """What the names of layer `at`'s parameters start with, such as `model.layers.3.`."""
    layer = decoder_layers(llm)[at]
    return next(name for name, module in llm.named_modules() if module is layer) + "."


def quarter_depth(count: int) -> int:
    """Layer 7 of 32, as RMU and FALCON have it, in an LLM of `count` layers."""
    return max(0, round(count / 4) - 1)


def and_two_before(layer: int) -> tuple[int, ...]:
    """Layers 5, 6, 7 for 7."""
    return tuple(range(max(0, layer - 2), layer + 1))


def _places(module: nn.Module, prefix: str = "") -> dict[str, nn.Module]:
    """By prefix, the parts that add into the residual stream: of a mixture its experts, in a block or beside it."""
    places: dict[str, nn.Module] = {}
    for name, part in module.named_children():
        if name in _BLOCK_NAMES or name in _EXPERT_NAMES:
            places |= _places(part, f"{prefix}{name}.")
    return places or {prefix: module}


def _weights(module: nn.Module) -> dict[str, nn.Parameter]:
    """By name, the matrices within it; without `.weight`, and of experts that are one parameter that parameter's."""
    return {
        name.removesuffix(".weight"): one
        for name, one in module.named_parameters(remove_duplicate=False)
        if one.dim() == (2 if name.endswith(".weight") else 3)
    }


def _named(layer: nn.Module, module: str, at: int) -> list[nn.Parameter]:
    weights = _weights(layer)
    names = mlp_output_names(layer) if module == MLP_OUTPUT else (module,)
    if not weights.keys() >= set(names):
        raise UnsuitableError(
            f"trained_modules names {module}, which is no matrix of layer {at}; there are {', '.join(sorted(weights))}"
        )
    return [weights[name] for name in names]
