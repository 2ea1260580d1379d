"""How large an LLM and the rows of a job are, and how much memory its training may take on its device."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from records.params import parse_parameters
from workers.errors import UnlearningError
from workers.fit import LlmSize, RowTokens
from workers.layer_configs import layer_configs
from workers.lessons import UnlearnWork, plan_lessons
from workers.loop import make_method, most_retain_rows
from workers.methods.layers import UnsuitableError, module_numbers
from workers.row_tokens import row_tokens
from workers.self_sampled import MOST_TEXTS, TEXT_TOKENS
from workers.sharding import local, most_gathered

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
# The loop keeps the last good step, and makes the next copy before it lets go; on a GPU both lie in the host's memory.
COPIES_ON_CPU = 2


def size_of(llm: Any) -> LlmSize:
    config, numbers = llm.config.get_text_config(), list(llm.parameters())
    width = int(config.hidden_size)
    eager = getattr(config, "_attn_implementation", "eager") == "eager"
    on_gpu = numbers[0].device.type == "cuda"
    modules = _modules(llm)
    return LlmSize(
        parameters=sum(local(one).numel() for one in numbers),
        stored_bytes=numbers[0].element_size(),
        layers=int(config.num_hidden_layers),
        width=width,
        inner=max(map(_inner, layer_configs(config))) or 4 * width,
        vocabulary=int(config.vocab_size),
        eager_heads=int(getattr(config, "num_attention_heads", None) or 0) if eager else 0,
        on_gpu=on_gpu,
        copies=0 if on_gpu else COPIES_ON_CPU,
        gathered=most_gathered(llm),
        modules=modules or {},
        layers_known=modules is not None,
    )


def _inner(config: Any) -> int:
    """Of the widest feed-forward block, since each layer may have its own (Gemma 3n); 0 if it is not named."""
    named = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 0
    return max(map(int, named)) if isinstance(named, list | tuple) else int(named)


def _modules(llm: Any) -> Mapping[str, int] | None:
    try:
        return module_numbers(llm)
    except UnsuitableError:  # nor can a module of it be trained
        return None


def tokens_of(work: UnlearnWork, tokenizer: Any, context_tokens: int) -> RowTokens | None:
    """Of the very rows that `unlearn` would hold; None where it would refuse them."""
    settings = parse_parameters(work.method, work.parameters)
    wanted = most_retain_rows(work, settings) if make_method(work.method, settings).wants_retain else 0
    sampled = bool(wanted) and (settings.retain_source == "sampled" or not work.retain)
    work = replace(work, retain=()) if sampled else work
    try:
        lessons = plan_lessons(work, tokenizer, context_tokens, wanted, settings.seed)
    except UnlearningError:
        return None
    found = row_tokens(lessons, every=getattr(settings, "positions", "labelled") == "real")
    return _with_sampled(found, min(wanted, MOST_TEXTS), context_tokens) if sampled else found


def _with_sampled(tokens: RowTokens, texts: int, context_tokens: int) -> RowTokens:
    """Beside the rows, texts that the LLM has yet to write, and the token that each begins with."""
    longest = min(context_tokens, 1 + TEXT_TOKENS)
    return RowTokens(max(tokens.longest, longest), tokens.kept + texts * longest)


def free_bytes(llm: Any) -> int | None:
    """What is free on the LLM's device, its own weights counted as free: they are loaded anew. None if unknown."""
    first = next(llm.parameters())
    if first.device.type == "cuda":
        return int(torch.cuda.mem_get_info(first.device)[0]) + torch.cuda.memory_reserved(first.device)
    free = [one for one in (available_bytes(MEMINFO), unused_bytes(CGROUP)) if one is not None]
    return min(free) + sum(local(one).nbytes for one in llm.parameters()) if free else None


def available_bytes(meminfo: Path) -> int | None:
    """Linux's own estimate of what a new program can get without swapping."""
    kilobytes = _field(meminfo, "MemAvailable:")
    return None if kilobytes is None else 1024 * kilobytes


def unused_bytes(cgroup: Path) -> int | None:
    """What the container's limit leaves, file caches that can be dropped not counted; None without a limit."""
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is None or used is None:
        return None
    return max(0, limit - used + (_field(cgroup / "memory.stat", "inactive_file") or 0))


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _field(file: Path, name: str) -> int | None:
    lines: Iterable[list[str]] = (line.split() for line in _text(file).splitlines())
    return next((int(line[1]) for line in lines if line[:1] == [name]), None)


def _text(file: Path) -> str:
    """Empty where there is no such file: another system, or no container."""
    try:
        return file.read_text()
    except OSError:
        return ""
