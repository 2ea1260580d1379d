"""A version's files as an LLM in memory: digests verified, safetensors only, no download, no code of theirs run."""

import gc
from pathlib import Path
from typing import Any

import torch

from records import checkpoints
from records.errors import Invalid, LetheError
from records.manifest import Manifest
from records.store import Store
from workers.sharding import rank, ranks, shard


class VersionUnusable(LetheError):
    """The files of a version are whole, but no causal LLM can be made of them."""

    code = "version_unusable"
    status = 500


def lay_out(store: Store, manifest_digest: str, folder: Path) -> Manifest:
    """Put the version's files under `folder` (absent or empty) and verify each.

    Raises CorruptBlob or BlobMissing.
    """
    manifest = Manifest.from_json(store.read_bytes(manifest_digest))
    store.materialise(manifest, folder)
    return manifest


def load_llm(folder: Path, device: str, *, in_full: bool = False) -> tuple[Any, Any]:
    """(LLM in its stored dtype, or in fp32, in eval mode; tokenizer).

    Raises VersionUnusable when weights are missing or spare, and CheckpointRefused for what may not be loaded at all:
    the libraries below believe every word of a config.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    checkpoints.check_folder(folder)

    logging.set_verbosity_error()
    logging.disable_default_handler()  # what is left goes where all that is logged goes, without its values
    logging.enable_propagation()
    logging.disable_progress_bar()
    only_local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **only_local)
    llm, found = AutoModelForCausalLM.from_pretrained(
        folder, **only_local, use_safetensors=True, dtype=torch.float32 if in_full else "auto", output_loading_info=True
    )
    wrong = {name: len(found[name]) for name in ("missing_keys", "unexpected_keys", "mismatched_keys") if found[name]}
    if wrong:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(wrong.items()))
        raise VersionUnusable(f"The version's weights do not fit its config.json: {counts}. Import it again.")
    return shard(llm, chosen_device(device, rank(), ranks())).eval(), tokenizer


def chosen_device(device: str, own_rank: int = 0, of_ranks: int = 1) -> str:
    """`auto` is a CUDA device if there is one: the first, or with several ranks each rank's own.

    Raises Invalid for one GPU that several ranks would share.
    """
    if of_ranks > 1 and ":" in device:
        raise Invalid("LETHE_DEVICE names one GPU, and LETHE_WORKER_PROCESSES wants one each: leave it at auto.")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    return f"cuda:{own_rank}" if of_ranks > 1 else device.replace("auto", "cuda")


def release_memory() -> None:
    """Give back what LLMs that nobody refers to any more have held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def use_threads(threads: int) -> None:
    """CPU threads for this process; 0 leaves torch's own choice."""
    if threads:
        torch.set_num_threads(threads)
