"""kill -9 while requests are submitted: what was answered exists, and a retry with the same key creates exactly one."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.live import wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
KEYS = [f"submit-{number}" for number in range(12)]
SERVER = """
import sys, uvicorn
from records.parts import open_parts
from service.main import create_app
uvicorn.run(create_app(open_parts()), host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False)
"""


@contextmanager
def server(folder):
    """A server process over the test's folder; killed without warning at the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "LETHE_DATA_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], cwd=ROOT, env=environment)
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _answers(base), 60)
        yield base
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _answers(base):
    try:
        return httpx.get(f"{base}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def submit(base, tenant, model, key):
    """The id of the request, or None if the server died before it answered."""
    body = {"model": model, "forget": [{"text": f"forget {key}"}]}
    try:
        answer = httpx.post(
            f"{base}/v1/erasure-requests", json=body, headers={**tenant.headers, "Idempotency-Key": key}, timeout=30
        )
    except httpx.TransportError:
        return None
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def test_every_answered_request_exists_and_every_retry_finds_it(client, ours, model, parts):
    folder, answered = parts.settings.place.folder, {}

    def send_all(base):
        for key in KEYS:
            answered[key] = submit(base, ours, model, key)

    with server(folder) as base:
        sender = threading.Thread(target=send_all, args=(base,))
        sender.start()
        wait_for(lambda: len(answered) >= 3, 60)
        time.sleep(0.05)  # somewhere inside a submission
    sender.join()
    assert any(answered.values())
    with server(folder) as base:
        retried = {key: submit(base, ours, model, key) for key in KEYS}
        listed = httpx.get(f"{base}/v1/erasure-requests?limit=200", headers=ours.headers).json()["data"]
    assert sorted(item["id"] for item in listed) == sorted(retried.values())
    assert {key: found for key, found in answered.items() if found} == {
        key: retried[key] for key, found in answered.items() if found
    }
    assert {item["state"] for item in listed} == {"queued"}
