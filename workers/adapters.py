"""LoRA in and out: adapters are trained, then added into the weights, so what is published is an ordinary LLM."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch

from workers.errors import Unsuitable
from workers.sharding import local, part, ranks

# Their out_proj is read so, and peft refuses it. The same of pure Mamba, which cannot be asked either.
KERNELS_OF_THEIR_OWN = frozenset({"falcon_h1", "nemotron_h"})


def add_lora(student: Any, rank: int, alpha: float, targets: Sequence[str] | Literal["all-linear"]) -> Any:
    """Put adapters into `student` in place, freezing everything else; return the wrapper that `merge_lora` takes.

    The student computes the same as before until the first step: the second factor of each adapter is zero.
    Raises Unsuitable where one of `targets` names no module, one that takes no adapter, or a weight that input and
    output share.
    """
    from peft import LoraConfig, get_peft_model

    known = ", ".join(_linear_names(student))  # before peft puts layers of its own among them
    if not isinstance(targets, str):
        _refuse_shared(student, targets)
        _refuse_unknown(student, targets, known)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=targets if isinstance(targets, str) else list(targets),
        exclude_modules=_without_adapters(student) if isinstance(targets, str) else None,
        task_type="CAUSAL_LM",
        # GPT-2 keeps its linear layers transposed.
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in student.modules()),
    )
    with warnings.catch_warnings():
        # peft reads an attribute that transformers has renamed; both names work.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        try:
            return get_peft_model(student, config)
        except ValueError as error:  # peft's own words name classes and quote the whole configuration
            raise Unsuitable(
                f"lora_targets ({_in_words(targets)}) names no layer of this LLM that adapters can be added to, or one "
                f"that takes none: name some of {known}, or all-linear"
            ) from error


def _in_words(targets: Sequence[str] | Literal["all-linear"]) -> str:
    return targets if isinstance(targets, str) else ", ".join(targets)


def _without_adapters(student: Any) -> list[str] | None:
    """Linear layers to which none can be added: a router that answers with more than its product (Llama 4, PhiMoE), and
    what a kernel reads by itself, past the adapter.
    """
    own = student.config.model_type in KERNELS_OF_THEIR_OWN
    linear = [(name, one) for name, one in student.named_modules() if isinstance(one, torch.nn.Linear)]
    without = [
        name for name, one in linear if type(one).__name__.endswith("Router") or (own and name.endswith(".out_proj"))
    ]
    return without or None


def _linear_names(student: Any) -> list[str]:
    """Of the layers that "all-linear" stands for, each name once."""
    head = student.get_output_embeddings()
    kinds = [(name, one) for name, one in student.named_modules() if type(one).__name__ in {"Linear", "Conv1D"}]
    return sorted({name.rpartition(".")[2] for name, one in kinds if one is not head})


def _refuse_unknown(student: Any, targets: Sequence[str], known: str) -> None:
    """peft passes over a name that is nowhere as long as another is somewhere: less would be trained than asked for."""
    names = [name for name, _ in student.named_modules()]
    nowhere = [one for one in targets if not any(_is_named(name, one) for name in names)]
    if nowhere:
        raise Unsuitable(
            f"lora_targets names {', '.join(nowhere)}, which no module of this LLM is called: name some of {known}, or "
            "all-linear"
        )


def _is_named(name: str, target: str) -> bool:
    """Whether a module of that full name is meant by the target, as peft takes it."""
    return name == target or name.endswith(f".{target}")


def _refuse_shared(student: Any, targets: Sequence[str]) -> None:
    """An adapter changes one use of a weight, merging it both: another LLM would be published than was trained."""
    embedding, head = student.get_input_embeddings(), student.get_output_embeddings()
    if head is None or head.weight is not embedding.weight:
        return
    for name, module in student.named_modules():
        named = [target for target in targets if _is_named(name, target)]
        if named and module in (embedding, head):
            raise Unsuitable(
                f"lora_targets names {named[0]}, whose weight is the LLM's input and output embedding in one, so that "
                "adapters of it cannot be merged: leave it out, or set tuning to full"
            )


def merge_lora(wrapper: Any) -> Any:
    """W + (alpha / rank)·B·A in every adapted layer, in fp32; the student, free of adapters, all weights trainable."""
    wrapper.float()
    student = wrapper.merge_and_unload(safe_merge=True) if ranks() == 1 else _merged_divided(wrapper)
    for parameter in student.parameters():
        parameter.requires_grad_(requires_grad=True)
    return student


def _merged_divided(wrapper: Any) -> Any:
    """Each rank adds its part; peft adds the whole alone."""
    from peft.tuners.lora import LoraLayer

    with torch.no_grad():
        for module in wrapper.modules():
            if isinstance(module, LoraLayer):
                weight = module.get_base_layer().weight
                for name in module.active_adapters:
                    local(weight).add_(part(module.get_delta_weight(name), weight))
    return wrapper.unload()
