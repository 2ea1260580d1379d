"""A tiny random LLM of every architecture that a method must run on, found by its name in transformers."""

from typing import Any

import torch
import transformers

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {"num_key_value_heads": 2}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    # The default, one product of all experts, knows no float64.
    "experts_implementation": "eager",
}
GPT2 = {
    "vocab_size": 64, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64, "initializer_range": 0.1,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip

# name: (class in transformers, its configuration, the matrix that ends its feed-forward block, or all of them)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "llama": ("LlamaForCausalLM", SIZES | GROUPED, ("mlp.down_proj.weight",)),
    "mistral": ("MistralForCausalLM", SIZES | GROUPED | {"sliding_window": 6}, ("mlp.down_proj.weight",)),
    "qwen2": ("Qwen2ForCausalLM", SIZES | GROUPED, ("mlp.down_proj.weight",)),
    "qwen3": (
        "Qwen3ForCausalLM",
        SIZES | GROUPED | {"head_dim": 8, "tie_word_embeddings": True},
        ("mlp.down_proj.weight",),
    ),
    "gemma": ("GemmaForCausalLM", SIZES | GROUPED | {"head_dim": 8}, ("mlp.down_proj.weight",)),
    "gemma2": (
        "Gemma2ForCausalLM",
        SIZES | GROUPED | {"head_dim": 8, "sliding_window": 6, "attn_implementation": "eager"},
        ("mlp.down_proj.weight",),
    ),
    "gemma3": ("Gemma3ForCausalLM", SIZES | GROUPED | {"head_dim": 8, "sliding_window": 6}, ("mlp.down_proj.weight",)),
    "phi": ("PhiForCausalLM", SIZES, ("mlp.fc2.weight",)),
    "phi3": ("Phi3ForCausalLM", SIZES | GROUPED, ("mlp.down_proj.weight",)),
    "gpt_neox": ("GPTNeoXForCausalLM", SIZES, ("mlp.dense_4h_to_h.weight",)),
    "mixtral": ("MixtralForCausalLM", SIZES | GROUPED | EXPERTS, ("mlp.experts.down_proj",)),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        SIZES | GROUPED | EXPERTS | {"shared_expert_intermediate_size": 24},
        ("mlp.experts.down_proj", "mlp.shared_expert.down_proj.weight"),
    ),
    "llama4": (
        "Llama4ForCausalLM",
        SIZES | GROUPED | EXPERTS | {"head_dim": 8, "intermediate_size_mlp": 48, "interleave_moe_layer_step": 1},
        ("feed_forward.experts.down_proj", "feed_forward.shared_expert.down_proj.weight"),
    ),
    "gpt2": ("GPT2LMHeadModel", GPT2, ("mlp.c_proj.weight",)),
}
# Some of whose experts lie beside the block of the others, or in it under a name of their own.
BESIDE: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "hunyuan_v1_moe": (
        "HunYuanMoEV1ForCausalLM",
        SIZES | GROUPED | EXPERTS | {"head_dim": 8, "moe_topk": 2},
        ("mlp.experts.down_proj", "mlp.shared_mlp.down_proj.weight"),
    ),
    "granitemoeshared": (
        "GraniteMoeSharedForCausalLM",
        SIZES | GROUPED | EXPERTS | {"shared_intermediate_size": 24},
        ("block_sparse_moe.experts.down_proj", "shared_mlp.output_linear.weight"),
    ),
    "gemma4": (
        "Gemma4ForCausalLM",
        SIZES | GROUPED | EXPERTS | {
            "head_dim": 8, "global_head_dim": 8, "sliding_window": 6, "hidden_size_per_layer_input": 0,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"], "enable_moe_block": True, "top_k_experts": 2,
        },
        ("mlp.down_proj.weight", "experts.down_proj"),
    ),
}  # fmt: skip
# Whose layers hand on several streams of states.
STREAMS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "gemma3n": (
        "Gemma3nForCausalLM",
        SIZES | GROUPED | {
            "head_dim": 8, "sliding_window": 6, "vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 8,
            "laurel_rank": 8, "num_kv_shared_layers": 0,
        },
        ("mlp.down_proj.weight",),
    ),
}  # fmt: skip
# Some of whose layers have no attention, but a state that is carried on.
CARRIED: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "qwen3_next": (
        "Qwen3NextForCausalLM",
        SIZES | GROUPED | EXPERTS | {
            "head_dim": 8, "shared_expert_intermediate_size": 24, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
            "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        },
        ("mlp.experts.down_proj", "mlp.shared_expert.down_proj.weight"),
    ),
    "minimax": (
        "MiniMaxForCausalLM",
        SIZES | GROUPED | EXPERTS | {"head_dim": 8, "block_size": 8},
        ("mlp.experts.down_proj",),
    ),
}  # fmt: skip
# Of experts, each token passing some.
MIXTURES = {name for name, (_, sizes, _) in ARCHITECTURES.items() if "num_experts" in sizes}


def make_architecture(name: str, *, seed: int = 0) -> Any:
    class_name, sizes, _ = (ARCHITECTURES | BESIDE | STREAMS | CARRIED)[name]
    kind = getattr(transformers, class_name)
    torch.manual_seed(seed)
    llm = kind(kind.config_class(**sizes)).eval()
    for parameter_name, parameter in llm.named_parameters():
        if parameter_name.endswith("bias"):  # born as zeros, which would hide a forgotten bias
            torch.nn.init.normal_(parameter, std=0.1)
    return llm
