"""Deciding whether a folder may become version 1: weights that are data and nothing but data.

Only safetensors, a config, tokenizer files and chat templates come in. Pickles, Python files and configs that ask for
code of their own are refused, because loading them would run them. Every file must lie under an import root, also
after its links are followed. Other files (README, .gitattributes) are left behind.

Nothing is loaded: the tensors are checked by their headers, the configs as JSON. The worker checks once more what it
is about to load, so that a version that came in under older rules is refused too.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from records import chat_templates, checkpoint_configs
from records.checkpoint_configs import INDEX
from records.errors import Invalid, invalid_field
from records.manifest import Entry, Manifest, manifest, path_problem
from records.safetensors_header import HeaderInvalid, tensor_names
from records.store import Store

POINTER = "/source/path"
MOST_FILES = 10_000
MOST_DEPTH = 8
MOST_BYTES = {
    "config.json": 2**20,
    "generation_config.json": 2**20,
    "tokenizer_config.json": 16 * 2**20,
    INDEX: 32 * 2**20,  # 9 MB for a model of 90,000 tensors
}
MOST_OTHER_BYTES = 64 * 2**20  # a tokenizer.json of 256 k tokens has 33 MB
SINGLE = "model.safetensors"
CARRIES_CODE = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".py"})
KEPT = frozenset(
    {
        "config.json", "generation_config.json", INDEX,
        "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
        "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "chat_template.json",
        "chat_template.jinja",
    }
)  # fmt: skip
TOKENIZERS = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"})
_TEMPLATE = re.compile(r"additional_chat_templates/[^/]+\.jinja")


class CheckpointRefused(Invalid):
    """The folder holds something that Lethe does not load, or lacks something it needs."""

    code = "checkpoint_refused"


@dataclass(frozen=True)
class Checkpoint:
    """A folder that passed: path in the version → the file it was resolved to."""

    files: dict[str, Path]

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files.values())


def resolve(path: str, roots: Iterable[Path]) -> tuple[Path, Path]:
    """The folder and the import root it lies under, links followed. Says nothing about paths outside the roots."""
    given = Path(path)
    resolved_roots = [root.expanduser().resolve() for root in roots]
    if "\0" in path or not given.is_absolute() or ".." in given.parts:
        raise invalid_field(POINTER, "Give an absolute path without '..' and without NUL.")
    folder = given.resolve()
    root = next((root for root in resolved_roots if folder.is_relative_to(root)), None)
    if root is None:
        detail = "The path does not lie under an import root. Move the folder there, or add its place to "
        raise invalid_field(POINTER, detail + "LETHE_IMPORT_ROOTS and restart.")
    if not folder.is_dir():
        raise invalid_field(POINTER, "There is no such folder under the import root.")
    return folder, root


def inspect(path: str, roots: Iterable[Path]) -> Checkpoint:
    """Everything that must hold before a byte is copied. Raises Invalid or CheckpointRefused about `/source/path`."""
    folder, root = resolve(path, roots)
    return Checkpoint(_checked(folder, root))


def check_folder(folder: Path) -> None:
    """The same for a folder of Lethe's own, before a library loads it. Raises CheckpointRefused."""
    _checked(folder.resolve(), folder.resolve())


def _checked(folder: Path, root: Path) -> dict[str, Path]:
    files = dict(_kept_files(folder, root))
    for name, path in files.items():
        _check_size(name, path)
    configs = {name: _json(path) for name, path in files.items() if name.endswith(".json")}
    if "config.json" not in configs:
        raise _refused("The folder has no config.json.")
    if not TOKENIZERS & files.keys():
        raise _refused("The folder has no tokenizer (tokenizer.json, or the files of a slow tokenizer).")
    for name, config in configs.items():
        _check_config(name, config)
    for name, path in files.items():
        if name.endswith(".jinja"):
            _check_template(path)
    weights = {name: path for name, path in files.items() if name.endswith(".safetensors")}
    n_tensors = _check_weights(weights, configs.get(INDEX))
    problem = checkpoint_configs.sizes_problem(configs["config.json"], n_tensors)
    if problem is not None:
        raise _refused(f"config.json {problem}.")
    return files


def copy_in(checkpoint: Checkpoint, store: Store) -> Manifest:
    """Copy the files into the store and their manifest with them. What was copied is checked again, since
    the folder may have changed meanwhile.
    """
    entries = []
    for name, path in checkpoint.files.items():
        blob = store.put_file(path)
        if name.endswith(".safetensors"):
            _tensors(name, store.path(blob.digest))
        elif name.endswith((".json", ".jinja")):
            _check_again(name, store.path(blob.digest))
        entries.append(Entry(name, blob.digest, blob.size_bytes))
    found = manifest(entries)
    store.put_bytes(found.to_json())
    return found


def _check_again(name: str, path: Path) -> None:
    _check_size(name, path)
    if name.endswith(".json"):
        _check_config(name, _json(path))
    else:
        _check_template(path)


def context_of(config_json: bytes) -> int | None:
    """The longest sequence a config.json names, in tokens; None if it names none."""
    config = from_json(config_json)
    for part in (config, config.get("text_config", {})) if isinstance(config, dict) else ():
        for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
            if isinstance(part, dict) and type(part.get(name)) is int and part[name] > 0:
                return int(part[name])
    return None


def shape_of(config_json: bytes) -> tuple[str | None, int | None]:
    """(architecture, layers) as a config.json names them: its model_type, and how many decoder layers there are."""
    config = from_json(config_json)
    if not isinstance(config, dict):
        return None, None
    architecture = config.get("model_type")
    counts = [config.get(name) for name in ("num_hidden_layers", "n_layer", "num_layers")]
    layers = next((count for count in counts if type(count) is int), None)
    return architecture if isinstance(architecture, str) else None, layers


def announced_problem(name: str, size_bytes: int) -> str | None:
    """What is wrong with a file before it has come, by its name and size; None if nothing is."""
    if not _is_kept(name):
        return "is none that a model is loaded from: safetensors, config, tokenizer and chat template files are"
    return None if size_bytes <= _most(name) else f"is larger than {_most(name)} bytes"


def _kept_files(folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(_every_file(folder)):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in CARRIES_CODE:
            raise _refused(
                f"The folder holds a {path.suffix.lower()} file, which can carry code. Convert weights to safetensors, "
                "and remove what is not safetensors."
            )
        if _is_kept(name):
            yield name, _plain(path, root)


def _every_file(folder: Path) -> Iterator[Path]:
    """All that is no folder, links to folders among it. Counted as it is found: a folder can hold millions."""
    open_folders, found = [(folder, 1)], 0
    while open_folders:
        present, depth = open_folders.pop()
        with os.scandir(present) as entries:
            for entry in entries:
                found += 1
                if found > MOST_FILES or depth > MOST_DEPTH:
                    raise _refused(f"The folder has more than {MOST_FILES} files, or is nested more than {MOST_DEPTH}.")
                if entry.is_dir(follow_symlinks=False):
                    open_folders.append((Path(entry.path), depth + 1))
                else:
                    yield Path(entry.path)


def _is_kept(name: str) -> bool:
    top_level = "/" not in name
    wanted = (top_level and (name in KEPT or name.endswith(".safetensors"))) or bool(_TEMPLATE.fullmatch(name))
    return wanted and path_problem(name) is None


def _plain(path: Path, root: Path) -> Path:
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        raise _refused("A file of the folder is a link that leads nowhere. Copy the file itself there.") from None
    if not target.is_relative_to(root):
        raise _refused("A file of the folder is a link that leads out of the import root. Copy the file itself there.")
    if not target.is_file():
        raise _refused("A file of the folder is a broken link or no plain file.")
    return target


def _check_size(name: str, path: Path) -> None:
    if path.stat().st_size > _most(name):
        raise _refused(f"{_shown(name)} is larger than {_most(name)} bytes. Fetch the folder again.")


def _most(name: str) -> int:
    if name.endswith(".safetensors"):
        return 2**63
    return MOST_BYTES.get(name, chat_templates.MOST_BYTES if name.endswith(".jinja") else MOST_OTHER_BYTES)


def _json(path: Path) -> Any:
    try:
        return from_json(path.read_bytes())
    except ValueError:
        raise _refused("A JSON file of the folder cannot be parsed; fetch the folder again.") from None


def _check_config(name: str, config: Any) -> None:
    problem = checkpoint_configs.problem_of(name, config)
    if problem is not None:
        raise _refused(f"{name} {problem}.")


def _check_template(path: Path) -> None:
    problem = chat_templates.problem_of(path.read_text(encoding="utf-8", errors="replace"))
    if problem is not None:
        raise _refused(f"A chat template of the folder {problem}. Remove or mend it.")


def _check_weights(shards: dict[str, Path], index: Any) -> int:
    """How many tensors there are."""
    if not shards:
        raise _refused("The folder has no safetensors weights. Convert the weights with save_pretrained.")
    held = {name: _tensors(name, path) for name, path in shards.items()}
    if index is None:
        if set(held) != {SINGLE}:
            raise _refused(f"Without {INDEX} the weights must be the one file {SINGLE}.")
        return len(held[SINGLE])
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise _refused(f"{INDEX} has no weight_map.")
    if {str(file) for file in weight_map.values()} != set(held):
        raise _refused(f"{INDEX} names other files than the folder holds: some are missing, or left over.")
    if {(tensor, file) for tensor, file in weight_map.items()} != {(t, f) for f, ts in held.items() for t in ts}:
        raise _refused(f"{INDEX} does not place every tensor in the file that holds it.")
    return len(weight_map)


def _tensors(name: str, path: Path) -> frozenset[str]:
    try:
        found = tensor_names(path)
    except HeaderInvalid as error:
        raise _refused(f"A weight file {error}. Fetch it again. ({_shown(name)})") from None
    if not found:
        raise _refused(f"A weight file holds no tensors. ({_shown(name)})")
    return found


def _shown(name: str) -> str:
    return name if name in KEPT or re.fullmatch(r"model[-.0-9a-z]*\.safetensors", name) else "a file of the folder"


def _refused(detail: str) -> CheckpointRefused:
    return CheckpointRefused(detail, invalid_field(POINTER, detail).errors)
