"""Tiny random LLMs and a word tokenizer, made in memory: real small twins for tests."""

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
FIRST = ["Ada", "Bo", "Cy", "Dag", "Eli", "Fay", "Gus", "Hal", "Ida", "Jo", "Kai", "Lev"]
CITIES = ["Oslo", "Rome", "Lima", "Cairo", "Quito", "Delhi", "Minsk", "Tunis", "Paris", "Bern", "Riga", "Sofia"]
JOBS = ["baker", "pilot", "nurse", "judge", "miner", "poet", "smith", "tailor", "vet", "clerk", "cook", "diver"]
OTHER = [
    "Where",
    "What",
    "does",
    "do",
    "is",
    "live",
    "lives",
    "work",
    "as",
    "the",
    "home",
    "of",
    "job",
    "in",
    "a",
    "?",
    ".",
]


def make_tokenizer(words: list[str] | None = None, *, bos: bool = True) -> PreTrainedTokenizerFast:
    """One token per whitespace-separated word or punctuation mark; <s> in front if `bos`."""
    vocabulary = SPECIAL + (words if words is not None else FIRST + CITIES + JOBS + OTHER)
    raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate(vocabulary)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def make_llama(
    *,
    vocabulary: int = 64,
    width: int = 32,
    layers: int = 2,
    tied: bool = True,
    context: int = 64,
    spread: float = 0.1,
    seed: int = 0,
) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        initializer_range=spread,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def make_gpt2(*, vocabulary: int = 64, width: int = 32, layers: int = 2, tied: bool = True, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        n_positions=64,
        initializer_range=0.1,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPT2LMHeadModel(config).eval()
