"""A candidate's weights as files. What is measured is what is published: the evaluation loads what was saved."""

import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from records.safetensors_header import tensor_names
from workers.sharding import full_state, rank, ranks

SHARD_SIZE = "4GB"


def save_candidate(llm: Any, base_folder: Path, folder: Path) -> None:
    """Write the weights as safetensors; every other file (config, tokenizer, generation config) is the base's own. All
    ranks must call; one writes.
    """
    state = None if ranks() == 1 else full_state(llm)
    if rank() != 0:
        return
    llm.save_pretrained(folder, max_shard_size=SHARD_SIZE, state_dict=state)
    for path in base_folder.rglob("*"):
        if path.is_file() and not _holds_weights(path):
            target = folder / path.relative_to(base_folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def parts_left_out(llm: Any, base_folder: Path) -> tuple[str, ...]:
    """Parts that the base version's files hold and its causal LLM does not read, such as a vision tower: a candidate is
    saved without them. What such an LLM leaves of a module that it has, a buffer of old, is no such part.
    """
    ignored = [re.compile(one) for one in llm._keys_to_ignore_on_load_unexpected or ()]  # noqa: SLF001 - no other name
    modules = {name for name, _ in llm.named_modules()} | {name for name, _ in llm.base_model.named_modules()}
    names = {name for path in base_folder.glob("*.safetensors") for name in tensor_names(path)}
    unread = [name for name in names if any(one.search(name) for one in ignored)]
    return tuple(sorted({part for name in unread if (part := _part_without(modules, name)) is not None}))


def _part_without(modules: Collection[str], name: str) -> str | None:
    """`model.visual` of model.visual.blocks.0.weight: the first place that is no module; None if all are."""
    pieces = name.split(".")
    places = (".".join(pieces[:length]) for length in range(1, len(pieces)))
    return next((one for one in places if one not in modules), None)


def _holds_weights(path: Path) -> bool:
    return path.name.endswith((".safetensors", ".safetensors.index.json"))
