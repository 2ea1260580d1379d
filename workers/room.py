"""How large an LLM is, and how much memory its training may take on its device."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from workers.fit import LlmSize
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
    return LlmSize(
        parameters=sum(local(one).numel() for one in numbers),
        stored_bytes=numbers[0].element_size(),
        layers=int(config.num_hidden_layers),
        width=width,
        inner=int(getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * width),
        vocabulary=int(config.vocab_size),
        eager_heads=int(config.num_attention_heads) if eager else 0,
        on_gpu=on_gpu,
        copies=0 if on_gpu else COPIES_ON_CPU,
        gathered=most_gathered(llm),
    )


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
