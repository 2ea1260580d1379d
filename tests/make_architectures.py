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
GPT2 = {
    "vocab_size": 64, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 64, "initializer_range": 0.1,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip

# name: (class in transformers, its configuration, the matrix that ends its feed-forward block)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaForCausalLM", SIZES | GROUPED, "mlp.down_proj"),
    "mistral": ("MistralForCausalLM", SIZES | GROUPED | {"sliding_window": 6}, "mlp.down_proj"),
    "qwen2": ("Qwen2ForCausalLM", SIZES | GROUPED, "mlp.down_proj"),
    "qwen3": ("Qwen3ForCausalLM", SIZES | GROUPED | {"head_dim": 8, "tie_word_embeddings": True}, "mlp.down_proj"),
    "gemma": ("GemmaForCausalLM", SIZES | GROUPED | {"head_dim": 8}, "mlp.down_proj"),
    "gemma2": (
        "Gemma2ForCausalLM",
        SIZES | GROUPED | {"head_dim": 8, "sliding_window": 6, "attn_implementation": "eager"},
        "mlp.down_proj",
    ),
    "gemma3": ("Gemma3ForCausalLM", SIZES | GROUPED | {"head_dim": 8, "sliding_window": 6}, "mlp.down_proj"),
    "phi": ("PhiForCausalLM", SIZES, "mlp.fc2"),
    "phi3": ("Phi3ForCausalLM", SIZES | GROUPED, "mlp.down_proj"),
    "gpt_neox": ("GPTNeoXForCausalLM", SIZES, "mlp.dense_4h_to_h"),
    "gpt2": ("GPT2LMHeadModel", GPT2, "mlp.c_proj"),
}


def make_architecture(name: str, *, seed: int = 0) -> Any:
    class_name, sizes, _ = ARCHITECTURES[name]
    kind = getattr(transformers, class_name)
    torch.manual_seed(seed)
    llm = kind(kind.config_class(**sizes)).eval()
    for parameter_name, parameter in llm.named_parameters():
        if parameter_name.endswith("bias"):  # born as zeros, which would hide a forgotten bias
            torch.nn.init.normal_(parameter, std=0.1)
    return llm
