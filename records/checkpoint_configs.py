"""What the JSON files of a checkpoint may ask for. All of them are read by libraries that believe every word.

config.json          no code of its own, no kernels from elsewhere, sizes that the weights bear out
tokenizer.json       no rule that turns a short text into a huge one
tokenizer_config     no code; chat templates that stay inside a sandbox

Each check gives the end of a sentence about the file, or nothing.
"""

import math
from collections.abc import Iterator
from typing import Any

from records import chat_templates

INDEX = "model.safetensors.index.json"
DATA = frozenset({"tokenizer.json", "vocab.json"})
CODE_KEYS = frozenset({"auto_map", "custom_pipelines"})
KERNEL_KEYS = frozenset(
    {"attn_implementation", "_attn_implementation", "_attn_implementation_internal", "kernel_config",
     "experts_implementation", "_experts_implementation", "_experts_implementation_internal"}
)  # fmt: skip
LAYERS = frozenset({"num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"})
MOST = {
    **dict.fromkeys(("vocab_size", "type_vocab_size"), 2**24),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "head_dim", "embedding_size"), 2**18),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "moe_intermediate_size"), 2**21),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "n_heads"), 2**14),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok"), 2**14),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 2**27),
}
MOST_ADDED_TOKENS = 200_000
MOST_PADDED_TOKENS = 2**20
MOST_PATTERN = 8192
MOST_GROWTH = 1024
MOST_PIECES = 64


def problem_of(name: str, content: Any) -> str | None:
    """Why this JSON file is not taken in, or None."""
    if name not in DATA and not isinstance(content, dict):
        return "is not a JSON object"
    return next(_problems(name, content), None)


def sizes_problem(config: Any, n_tensors: int) -> str | None:
    """Why the sizes that config.json names cannot be meant: a library would build whatever they say."""
    for key, value in _pairs(config):
        if key in LAYERS and any(number > n_tensors for number in _numbers(value)):
            return f"names more layers ({key}) than the weights have tensors"
        if key in MOST and any(not 0 <= number <= MOST[key] for number in _numbers(value)):
            return f"names a size ({key}) that no model has"
    return None


def _problems(name: str, content: Any) -> Iterator[str]:
    if name == "tokenizer.json":
        yield from _tokenizer_problems(content)
    if name in DATA:
        return
    for key, value in _pairs(content):
        if key in CODE_KEYS:
            yield "asks for code of its own (auto_map). Use an architecture that transformers knows"
        if key in KERNEL_KEYS and any("/" in text for text in _strings(value)):
            yield f"asks for kernels from elsewhere ({key}). Remove the field"
        if name == "config.json" and key == "quantization_config" and value is not None:
            yield "describes quantised weights, which cannot be trained. Import the unquantised weights"
    if name == "config.json" and not isinstance(content.get("model_type"), str):
        yield "does not name a model_type"
    yield from _template_problems(content.get("chat_template"))


def _template_problems(found: Any) -> Iterator[str]:
    """A template, or a list of {"name", "template"}."""
    for source in _strings(found):
        problem = chat_templates.problem_of(source)
        if problem is not None:
            yield f"has a chat template that {problem}"


def _tokenizer_problems(content: Any) -> Iterator[str]:
    if not isinstance(content, dict):
        yield "is not a JSON object"
        return
    added = content.get("added_tokens")
    if isinstance(added, list) and len(added) > MOST_ADDED_TOKENS:
        yield f"adds more than {MOST_ADDED_TOKENS} tokens"
    if any(number > MOST_PADDED_TOKENS for number in _numbers(content.get("padding"))):
        yield "pads every text to a huge length"
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        yield from _rewriting_problems(content.get(part))
    for key, value in _pairs(content.get("post_processor")):
        if key in ("single", "pair", "ids", "tokens") and isinstance(value, list) and len(value) > MOST_PIECES:
            yield f"adds more than {MOST_PIECES} tokens to every text"


def _rewriting_problems(part: Any) -> Iterator[str]:
    """Replacements are made one after another, so their growths multiply: 40 times "a" to "aa" is a terabyte."""
    pairs = list(_pairs(part))
    growth = math.prod(max(1, len(value)) for key, value in pairs if key == "content" and isinstance(value, str))
    if growth > MOST_GROWTH:
        yield "makes short texts huge"
    if any(key in ("Regex", "String") and len(str(value)) > MOST_PATTERN for key, value in pairs):
        yield f"has a pattern longer than {MOST_PATTERN} characters"


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value, at any depth. The depth was limited when the file was parsed."""
    if isinstance(value, dict):
        yield from value.items()
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(item, dict | list):
            yield from _pairs(item)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(item)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _numbers(item)
