"""Deciding whether a folder may become version 1: weights that are data and nothing but data.

Only safetensors, a config, tokenizer files and chat templates come in. Pickles, Python files and configs that ask for
code of their own are refused, because loading them would run them. Every file must lie under an import root, also
after its links are followed. Other files (README, .gitattributes) are left behind.

Nothing is loaded: the tensors are checked by their headers, the configs as JSON.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from records.errors import Invalid, invalid_field
from records.manifest import Entry, Manifest, manifest, path_problem
from records.safetensors_header import HeaderInvalid, tensor_names
from records.store import Store

POINTER = "/source/path"
MOST_FILES = 10_000
MOST_JSON_BYTES = 64 * 2**20  # a tokenizer.json of 256 k tokens has 33 MB
INDEX = "model.safetensors.index.json"
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
CODE_KEYS = frozenset({"auto_map", "custom_pipelines"})
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
    files = dict(_kept_files(folder, root))
    configs = {name: _json(path) for name, path in files.items() if name.endswith(".json")}
    if "config.json" not in configs:
        raise _refused("The folder has no config.json.")
    if not TOKENIZERS & files.keys():
        raise _refused("The folder has no tokenizer (tokenizer.json, or the files of a slow tokenizer).")
    for name, config in configs.items():
        _check_config(name, config)
    _check_weights({name: path for name, path in files.items() if name.endswith(".safetensors")}, configs.get(INDEX))
    return Checkpoint(files)


def copy_in(checkpoint: Checkpoint, store: Store) -> Manifest:
    """Copy the files into the store and their manifest with them. What was copied is checked again, since
    the folder may have changed meanwhile.
    """
    entries = []
    for name, path in checkpoint.files.items():
        blob = store.put_file(path)
        if name.endswith(".safetensors"):
            _tensors(name, store.path(blob.digest))
        elif name.endswith(".json"):
            _check_config(name, _json(store.path(blob.digest)))
        entries.append(Entry(name, blob.digest, blob.size_bytes))
    found = manifest(entries)
    store.put_bytes(found.to_json())
    return found


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


def _kept_files(folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    for number, path in enumerate(sorted(folder.rglob("*"))):
        name = path.relative_to(folder).as_posix()
        if number >= MOST_FILES:
            raise _refused(f"The folder has more than {MOST_FILES} files.")
        if path.suffix.lower() in CARRIES_CODE:
            raise _refused(
                f"The folder holds a {path.suffix.lower()} file, which can carry code. Convert weights to safetensors, "
                "and remove what is not safetensors."
            )
        if _is_kept(name):
            yield name, _plain(path, root)


def _is_kept(name: str) -> bool:
    top_level = "/" not in name
    wanted = (top_level and (name in KEPT or name.endswith(".safetensors"))) or bool(_TEMPLATE.fullmatch(name))
    return wanted and path_problem(name) is None


def _plain(path: Path, root: Path) -> Path:
    target = path.resolve()
    if not target.is_relative_to(root):
        raise _refused("A file of the folder is a link that leads out of the import root. Copy the file itself there.")
    if not target.is_file():
        raise _refused("A file of the folder is a broken link or no plain file.")
    return target


def _json(path: Path) -> Any:
    if path.stat().st_size > MOST_JSON_BYTES:
        raise _refused(f"A JSON file of the folder is larger than {MOST_JSON_BYTES} bytes.")
    try:
        return from_json(path.read_bytes())
    except ValueError:
        raise _refused("A JSON file of the folder cannot be parsed; fetch the folder again.") from None


def _check_config(name: str, config: Any) -> None:
    if name in ("tokenizer.json", "vocab.json"):
        return  # data of any form; only the configs can ask for code
    if not isinstance(config, dict):
        raise _refused(f"{name} is not a JSON object.")
    if any(key in CODE_KEYS for key in _keys(config)):
        raise _refused(f"{name} asks for code of its own (auto_map). Use an architecture that transformers knows.")
    if name == "config.json" and "quantization_config" in config:
        raise _refused("The weights are quantised and cannot be trained. Import the unquantised weights.")
    if name == "config.json" and not isinstance(config.get("model_type"), str):
        raise _refused("config.json does not name a model_type.")


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(item)


def _check_weights(shards: dict[str, Path], index: Any) -> None:
    if not shards:
        raise _refused("The folder has no safetensors weights. Convert the weights with save_pretrained.")
    held = {name: _tensors(name, path) for name, path in shards.items()}
    if index is None:
        if set(held) != {SINGLE}:
            raise _refused(f"Without {INDEX} the weights must be the one file {SINGLE}.")
        return
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise _refused(f"{INDEX} has no weight_map.")
    if {str(file) for file in weight_map.values()} != set(held):
        raise _refused(f"{INDEX} names other files than the folder holds: some are missing, or left over.")
    if {(tensor, file) for tensor, file in weight_map.items()} != {(t, f) for f, ts in held.items() for t in ts}:
        raise _refused(f"{INDEX} does not place every tensor in the file that holds it.")


def _tensors(name: str, path: Path) -> frozenset[str]:
    try:
        found = tensor_names(path)
    except HeaderInvalid as error:
        raise _refused(f"A weight file {error}. Fetch it again. ({_shown(name)})") from None
    if not found:
        raise _refused(f"A weight file holds no tensors. ({_shown(name)})")
    return found


def _shown(name: str) -> str:
    return name if re.fullmatch(r"model[-.0-9a-z]*\.safetensors", name) else "a .safetensors file"


def _refused(detail: str) -> CheckpointRefused:
    return CheckpointRefused(detail, invalid_field(POINTER, detail).errors)
