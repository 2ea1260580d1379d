"""The application over a test's parts, and a model to talk about.

The weights are bytes that are safetensors by every rule and no LLM: the service never loads them.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from records.parts import Parts
from service.main import create_app
from tests.conftest import Tenant

CONTEXT_TOKENS = 64
NAME = "acme/tiny"


def safetensors(tensors: dict[str, bytes]) -> bytes:
    """A well-formed file of U8 tensors."""
    header, offset = {}, 0
    for name, data in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(tensors.values())


def write_checkpoint(folder: Path, weights: bytes | None = None, **config: Any) -> Path:
    """A folder that may be imported: with a tensor for each layer its config names."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {"model_type": "llama", "max_position_embeddings": CONTEXT_TOKENS, **config}
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "tokenizer.json").write_text("{}")
    layers = {f"layer{number}": b"l" for number in range(config.get("num_hidden_layers", 0))}
    (folder / "model.safetensors").write_bytes(weights or safetensors({"a": bytes(range(256)), "b": b"bb", **layers}))
    return folder


@pytest.fixture
def client(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts)) as client:
        yield client


@pytest.fixture
def model(client: TestClient, ours: Tenant, import_root: Path) -> str:
    """The name of a registered model of our tenant."""
    folder = write_checkpoint(import_root / "tiny")
    answer = client.post("/v1/models", json={"name": NAME, "source": {"path": str(folder)}}, headers=ours.headers)
    assert answer.status_code == 201, answer.text
    return NAME


def problem(answer: Any, status: int, pointer: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Assert a well-formed problem document, and that it points where it should."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "instance", "code", "errors", "request_id"} <= body.keys()
    assert body["request_id"] == answer.headers["x-request-id"]
    if pointer is not None:
        assert pointer in [error.get("pointer") for error in body["errors"]], body["errors"]
    if code is not None:
        assert body["code"] == code
    return body


def put_lines(client: TestClient, tenant: Tenant, model: str, role: str, rows: list[dict[str, Any]] | bytes) -> Any:
    """PUT a dataset."""
    body = rows if isinstance(rows, bytes) else b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    headers = {**tenant.headers, "Content-Type": "application/jsonl"}
    return client.put(f"/v1/models/{model}/datasets/{role}", content=body, headers=headers)


def submit(client: TestClient, tenant: Tenant, model: str, **more: Any) -> Any:
    """POST an erasure request with one example unless told otherwise."""
    body: dict[str, Any] = {"model": model, **more}
    if "forget" not in body and "subject" not in body:
        body["forget"] = [{"prompt": "Who?", "completion": " Ada", "subject": "ada"}]
    return client.post("/v1/erasure-requests", json=body, headers=tenant.headers)
