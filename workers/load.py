"""A version's files as an LLM in memory: digests verified, safetensors only, no download, no code of theirs run."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from records import checkpoints
from records.errors import Invalid, LetheError
from records.manifest import Manifest
from records.store import Store
from workers.alternatives import word_ids
from workers.sharding import rank, ranks, shard


class VersionUnusable(LetheError):
    """The files of a version are whole, but no causal LLM can be made of them."""

    code = "version_unusable"
    status = 500


class DeviceMissing(LetheError):
    """The settings ask for a GPU that this host does not show."""

    code = "device_missing"
    status = 500


_ONLY_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def lay_out(store: Store, manifest_digest: str, folder: Path) -> Manifest:
    """Put the version's files under `folder` (absent or empty) and verify each.

    Raises CorruptBlob or BlobMissing.
    """
    manifest = Manifest.from_json(store.read_bytes(manifest_digest))
    store.materialise(manifest, folder)
    return manifest


def load_llm(folder: Path, device: str, *, in_full: bool = False) -> tuple[Any, Any]:
    """(LLM in its stored dtype, or in fp32, in eval mode; tokenizer).

    Raises VersionUnusable when weights are missing, spare or of other shapes, the tokenizer has words that the LLM has
    not or the libraries make nothing of a file, DeviceMissing or Invalid for the device, and CheckpointRefused for what
    may not be loaded at all: the libraries below believe every word of a config.
    """
    from transformers import AutoConfig, logging

    checkpoints.check_folder(folder)
    own_device = chosen_device(device, rank(), ranks())
    logging.set_verbosity_error()
    logging.disable_default_handler()  # what is left goes where all that is logged goes, without its values
    logging.enable_propagation()
    logging.disable_progress_bar()
    with _config_in_words():  # on its own: it would look like the tokenizer's fault, which reads it too
        AutoConfig.from_pretrained(folder, **_ONLY_LOCAL)
    tokenizer = load_tokenizer(folder)
    llm = _weights(folder, torch.float32 if in_full else "auto")
    _require_known_words(llm, tokenizer)
    return shard(llm, own_device).eval(), tokenizer


def _require_known_words(llm: Any, tokenizer: Any) -> None:
    """A text with a word behind the LLM's last would end the job with an IndexError, or on a GPU the whole process.
    Special tokens there, such as one for padding, are the tokenizer's alone.
    """
    known = int(llm.get_input_embeddings().weight.size(0))
    behind = sum(at >= known for at in word_ids(tokenizer))
    if behind:
        raise VersionUnusable(
            f"The version's tokenizer has {behind} words behind the last of the {known} that the LLM has embeddings "
            "for. Save the tokenizer that belongs to the weights beside them, and import the model again."
        )


def load_tokenizer(folder: Path) -> Any:
    """Raises VersionUnusable where the libraries make none of its files."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, **_ONLY_LOCAL)
    except Exception as error:  # tokenizers raises Exception itself, and of a wrong file nearly everything else
        if isinstance(error, MemoryError) or getattr(error, "errno", None):  # the host's fault, not the file's
            raise
        raise VersionUnusable(
            f"No tokenizer can be made of the version's tokenizer files ({type(error).__name__}). Save it again with "
            "save_pretrained, which writes a whole tokenizer.json, and import the model again."
        ) from error


def _weights(folder: Path, dtype: Any) -> Any:
    """The LLM. Weights of other shapes than its config's are counted here: by itself the library says no more than
    that there are some.
    """
    from transformers import AutoModelForCausalLM

    options = {**_ONLY_LOCAL, "use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
    with _config_in_words():
        llm, found = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **options)
    wrong = {name: len(found[name]) for name in ("missing_keys", "unexpected_keys", "mismatched_keys") if found[name]}
    if wrong:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(wrong.items()))
        raise VersionUnusable(
            f"The version's weights do not fit its config.json: {counts}. Save both again with save_pretrained, and "
            "import the model again."
        )
    return llm


@contextmanager
def _config_in_words() -> Iterator[None]:
    """What the libraries raise when they can make nothing of a config.json; what they raise of the host goes on."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import __version__

    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ImportError, StrictDataclassError) as error:
        raise VersionUnusable(
            f"transformers {__version__} can make no causal LLM of the version's config.json ({type(error).__name__}). "
            "Mend it until AutoModelForCausalLM.from_pretrained takes the folder, and import the model again."
        ) from error


def chosen_device(device: str, own_rank: int = 0, of_ranks: int = 1) -> str:
    """`auto` is a CUDA device if there is one: the first, or with several ranks each rank's own.

    Raises Invalid for one GPU that several ranks would share, DeviceMissing for one that is not there.
    """
    if of_ranks > 1 and ":" in device:
        raise Invalid("LETHE_DEVICE names one GPU, and LETHE_WORKER_PROCESSES wants one each: leave it at auto.")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    chosen = torch.device(f"cuda:{own_rank}" if of_ranks > 1 else device.replace("auto", "cuda"))
    if chosen.type == "cuda":
        _check_gpus(device, max(of_ranks, 1 + (chosen.index or 0)))
    return str(chosen)


def _check_gpus(device: str, wanted: int) -> None:
    present = torch.cuda.device_count()
    if present < wanted:
        raise DeviceMissing(
            f"LETHE_DEVICE={device} with the worker's processes needs {wanted} GPU{'s' * (wanted > 1)}, and its host "
            f"shows {present or 'none'}. Install the driver or pass more GPUs into the container; or set "
            "LETHE_DEVICE=auto, and LETHE_WORKER_PROCESSES to the number of GPUs."
        )


def release_memory() -> None:
    """Give back what LLMs that nobody refers to any more have held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def use_threads(threads: int) -> None:
    """CPU threads for this process; 0 leaves torch's own choice."""
    if threads:
        torch.set_num_threads(threads)
