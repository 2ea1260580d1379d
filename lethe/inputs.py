"""What `lethe evaluate` is given, checked before anything heavy: each refusal names option, problem and remedy.

Rows may be personal data: a refusal names lines by number and fields by name, never a word of them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from transformers import AutoConfig

from lethe import json_text
from lethe.commands.options import Mistake, unreadable
from records.checkpoints import TOKENIZERS
from records.safetensors_header import HeaderInvalid, tensor_names
from workers.examples import Example, parse
from workers.load import VersionUnusable, load_llm, load_tokenizer
from workers.loop import configured_context

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
T = TypeVar("T")
_ONLY_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def check_checkpoint(option: str, folder: Path) -> None:
    """A folder with config.json, whole safetensors and a tokenizer. Raises Mistake."""
    if not folder.is_dir():
        raise Mistake(f"{option}: there is no folder {folder}. Name one with config.json, safetensors and a tokenizer.")
    names = sorted(path.name for path in folder.iterdir())
    weights = [name for name in names if name.endswith(".safetensors")]
    pickles = [name for name in names if name.endswith(PICKLES)]
    if not weights and pickles:
        raise Mistake(
            f"{option}: {folder} holds its weights as pickle ({pickles[0]}), which can run code when it is read. "
            "Save it again with save_pretrained, which writes safetensors."
        )
    missing = "*.safetensors" if not weights else "config.json" if "config.json" not in names else None
    if missing:
        raise Mistake(f"{option}: {folder} has no {missing}. Name the folder that save_pretrained wrote.")
    for name in weights:
        try:
            tensor_names(folder / name)
        except HeaderInvalid as error:
            raise Mistake(f"{option}: {name} {error}. Copy or save the checkpoint again.") from None
    if not TOKENIZERS & set(names):
        raise Mistake(
            f"{option}: {folder} has no tokenizer (tokenizer.json, or the files of a slow tokenizer). Save the one of "
            "these weights there, with its save_pretrained."
        )


def opened(option: str, folder: Path, read: Callable[[Path], T]) -> T:
    """What `read` makes of the folder. Whatever the libraries find wrong with it becomes a Mistake."""
    try:
        return read(folder)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, VersionUnusable) as error:
        reason = " ".join(str(error).split())[:300]
        raise Mistake(f"{option}: {folder} cannot be read as a causal LLM: {reason}") from None


def shared_context(checkpoints: Mapping[str, Path], texts: Sequence[str]) -> int:
    """The shorter context in tokens, once both tokenizers agree on words and on every text. Raises Mistake."""
    made = [opened(option, folder, load_tokenizer) for option, folder in checkpoints.items()]
    if not all(_agree(made[0], other, texts) for other in made[1:]):
        raise Mistake(
            f"{' and '.join(checkpoints)}: the tokenizers differ, so that token probabilities cannot be compared. "
            "Name two checkpoints of one LLM, or copy the tokenizer files of the one that the weights belong to."
        )
    return min(opened(option, folder, _context) for option, folder in checkpoints.items())


def _agree(one: Any, other: Any, texts: Sequence[str]) -> bool:
    """One may have words more than the other, as an added padding mark; what both have must be the same."""
    few, many = sorted((one.get_vocab(), other.get_vocab()), key=len)
    same_words = few.items() <= many.items() and one.eos_token_id == other.eos_token_id
    return same_words and all(
        one(text, verbose=False)["input_ids"] == other(text, verbose=False)["input_ids"] for text in texts
    )


def load(option: str, folder: Path, device: str) -> tuple[Any, Any]:
    """(LLM, tokenizer). Raises Mistake."""
    return opened(option, folder, lambda at: load_llm(at, device))


def check_device(device: str) -> None:
    """Raises Mistake unless torch can put weights there."""
    import torch

    try:
        if device != "auto":
            torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise Mistake(f"--device: this machine has no device {device}. Give cpu, cuda or auto.") from None


def read_rows(option: str, file: Path) -> list[tuple[int, Example]]:
    """(line number, example) of every line but empty ones. Raises Mistake."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise unreadable(option, file, error) from None
    try:
        rows = [(number, _row(option, number, row)) for number, row in json_text.rows(content)]
    except json_text.BadLine as bad:
        raise Mistake(
            f"{option}: line {bad.number} of {file} {bad.problem}. Write JSON, one example a line, in UTF-8."
        ) from None
    if not rows:
        raise Mistake(f"{option}: {file} is empty. Write one example a line, as JSON.")
    return rows


def check_disjoint(forget: Sequence[tuple[int, Example]], option: str, others: Sequence[tuple[int, Example]]) -> None:
    """No row may be both to forget and to compare with. Raises Mistake with the first such pair of lines."""
    lines = {_said(one): number for number, one in forget}
    for number, one in others:
        if _said(one) in lines:
            raise Mistake(
                f"{option}: line {number} is also line {lines[_said(one)]} of --forget. Take it out of one of them: "
                "what is to be forgotten cannot show what was never trained or what must stay."
            )


def _row(option: str, number: int, found: Mapping[str, Any]) -> Example:
    try:
        return parse(found)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        # A field's own name may be the caller's words; of a field that is not ours, say only that.
        place = "" if first["type"] == "extra_forbidden" else ".".join(str(part) for part in first["loc"])
        told = "it has a field that examples do not have" if not place and first["loc"] else first["msg"]
        told = told.removeprefix("Value error, ")
        raise Mistake(
            f"{option}: line {number} is no example: {f'{place}: ' if place else ''}{told}. "
            'Write {"prompt": …, "completion": …} or {"text": …}.'
        ) from None


def _said(one: Example) -> str:
    """Of two rows that differ in white space alone, the same."""
    return " ".join(one.whole.split())


def _context(folder: Path) -> int:
    return configured_context(AutoConfig.from_pretrained(folder, **_ONLY_LOCAL))
