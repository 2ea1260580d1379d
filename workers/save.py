"""A candidate's weights as files. What is measured is what is published: the evaluation loads what was saved."""

import shutil
from pathlib import Path
from typing import Any

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


def _holds_weights(path: Path) -> bool:
    return path.name.endswith((".safetensors", ".safetensors.index.json"))
