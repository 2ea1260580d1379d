"""Sending a folder to Lethe so that it becomes a model: only what an import would take, each file by its digest.

Interrupted, it is called again and sends what is missing: what was begun is found by an Idempotency-Key that is made of
the files themselves.
"""

import contextlib
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lethe.transport import LetheProblem, Transport, object_of

OnSent = Callable[[str, int], None]
"""Called with a file's path and size once it is there."""

CHUNK_BYTES = 1 << 20
NAMES = frozenset(
    {
        "config.json", "generation_config.json", "model.safetensors.index.json",
        "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
        "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "chat_template.json",
        "chat_template.jinja",
    }
)  # fmt: skip
"""What Lethe takes beside safetensors; the rest of a folder stays where it is."""


def send_folder(transport: Transport, folder: Path, on_sent: OnSent | None = None) -> str:
    """The id of an upload that holds all of the folder's files. LetheProblem says what is not taken."""
    announced = [_announced(folder, path) for path in _files(folder)]
    upload = _begun(transport, announced)
    for one in upload["files"]:
        if not one["received"]:
            _send(transport, upload["id"], folder, one["path"])
        if on_sent:
            on_sent(one["path"], one["size_bytes"])
    return str(upload["id"])


def _begun(transport: Transport, announced: list[dict[str, Any]]) -> dict[str, Any]:
    """The upload of these files that was begun before, if it is still there; else a new one."""
    same = hashlib.sha256(json.dumps(announced).encode()).hexdigest()
    before = _create(transport, announced, f"upload-{same}")
    with contextlib.suppress(LetheProblem):
        return object_of(transport.call("GET", f"/v1/uploads/{before['id']}", repeatable=True))
    return _create(transport, announced, str(uuid.uuid4()))


def _create(transport: Transport, announced: list[dict[str, Any]], key: str) -> dict[str, Any]:
    headers, body = {"Idempotency-Key": key}, {"files": announced}
    return object_of(transport.call("POST", "/v1/uploads", repeatable=True, headers=headers, json=body))


def _send(transport: Transport, upload_id: str, folder: Path, path: str) -> None:
    content = lambda: file_pieces(folder / path)  # noqa: E731 - opened anew for every try
    headers = {"Content-Type": "application/octet-stream"}
    url = f"/v1/uploads/{upload_id}/files/{quote(path)}"
    transport.call("PUT", url, repeatable=True, content=content, headers=headers)


def _files(folder: Path) -> list[Path]:
    templates = folder.glob("additional_chat_templates/*.jinja")
    named = (path for path in folder.iterdir() if path.name in NAMES or path.suffix == ".safetensors")
    return sorted(path for path in (*named, *templates) if path.is_file())


def _announced(folder: Path, path: Path) -> dict[str, Any]:
    digest, size_bytes = hashlib.sha256(), 0
    for piece in file_pieces(path):
        digest.update(piece)
        size_bytes += len(piece)
    name = path.relative_to(folder).as_posix()
    return {"path": name, "digest": f"sha256:{digest.hexdigest()}", "size_bytes": size_bytes}


def file_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
