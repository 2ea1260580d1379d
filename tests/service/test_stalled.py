"""Bodies of which nothing more comes: refused in words, nothing of them kept, and their places are free again."""

import contextlib
import socket
from dataclasses import replace
from typing import Any

import httpx
import pytest

from records.parts import Parts
from tests.conftest import everything_stored
from tests.service.live import serving, wait_for

pytestmark = pytest.mark.slow
SOON_SECONDS = 0.3
SENDERS = 60  # more than the server has threads


def impatient(parts: Parts) -> Parts:
    http = parts.settings.http.model_copy(update={"body_seconds": SOON_SECONDS})
    return replace(parts, settings=replace(parts.settings, http=http))


def started(base: str, key: str, call: str, sent: bytes, content_type: str = "application/json") -> socket.socket:
    """A call that says it sends 4 bytes more than it does."""
    url = httpx.URL(base)
    head = (
        f"{call} HTTP/1.1\r\nHost: lethe\r\nContent-Type: {content_type}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Length: {len(sent) + 4}\r\n\r\n"
    )
    sender = socket.create_connection((url.host, url.port), timeout=20)
    sender.sendall(head.encode() + sent)
    return sender


def heard(sender: socket.socket) -> str:
    """All that the server says until it hangs up."""
    return b"".join(iter(lambda: sender.recv(65536), b"")).decode()


def test_a_body_that_stalls_is_refused_and_leaves_nothing(ours: Any, model: str, parts: Parts) -> None:
    with serving(impatient(parts)) as base:
        files = [{"path": "config.json", "digest": f"sha256:{'0' * 64}", "size_bytes": 6}]
        begun = httpx.post(f"{base}/v1/uploads", json={"files": files}, headers=ours.headers).json()
        before = everything_stored(parts)
        for call, content_type in (
            (f"PUT /v1/uploads/{begun['id']}/files/config.json", "application/octet-stream"),
            (f"PUT /v1/models/{model}/datasets/training", "application/jsonl"),
            ("POST /v1/erasure-requests", "application/json"),
        ):
            with started(base, ours.key, call, b"{}", content_type) as sender:
                answer = heard(sender)
            assert answer.startswith("HTTP/1.1 408"), answer
            assert '"code":"body_stalled"' in answer
            assert "Send the call again" in answer
        assert parts.store.usage().temporary_bytes == 0
        assert everything_stored(parts) == before


def test_a_body_that_comes_slowly_is_taken(ours: Any, model: str, parts: Parts) -> None:
    with serving(impatient(parts)) as base:
        path = f"PUT /v1/models/{model}/datasets/training"
        with started(base, ours.key, path, b'{"text": "a"', "application/jsonl") as sender:
            for piece in (b" ", b" ", b" ", b"}"):
                with contextlib.suppress(TimeoutError):
                    sender.settimeout(SOON_SECONDS / 2)
                    assert not sender.recv(1), "answered before the end"
                sender.sendall(piece)
            sender.settimeout(20)
            assert sender.recv(65536).startswith(b"HTTP/1.1 201")


def test_one_tenants_slow_senders_hold_up_nobody(ours: Any, theirs: Any, model: str, parts: Parts) -> None:
    """Whoever sends slowly waits for its own senders; others send files, and call, as ever."""
    path = f"PUT /v1/models/{model}/datasets/training"
    with serving(parts) as base, contextlib.ExitStack() as senders:
        for _ in range(SENDERS):
            senders.enter_context(started(base, ours.key, path, b'{"text": ', "application/jsonl"))
        wait_for(lambda: parts.store.root.joinpath("tmp").exists() and writers(parts) >= 8)
        assert httpx.get(f"{base}/v1/models", headers=ours.headers, timeout=20).status_code == 200
        files = [{"path": "config.json", "digest": f"sha256:{'0' * 64}", "size_bytes": 2}]
        begun = httpx.post(f"{base}/v1/uploads", json={"files": files}, headers=theirs.headers).json()
        send = f"{base}/v1/uploads/{begun['id']}/files/config.json"
        answer = httpx.put(send, content=b"{}", headers=theirs.headers, timeout=5)
        assert (answer.status_code, answer.json()["code"]) == (422, "wrong_bytes"), "taken in, and looked at"
        assert writers(parts) == 8
    assert parts.store.usage().temporary_bytes == 0


def writers(parts: Parts) -> int:
    return len(list(parts.store.root.joinpath("tmp").iterdir()))
