"""The API under a certificate: who trusts it is answered, and who speaks in the clear is not."""

import ssl
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn

from lethe.embedded import _http
from records.parts import Parts
from records.settings import TransportSettings
from service.main import create_app
from tests.service.live import wait_for
from tests.workers.test_courier import self_signed


@pytest.mark.slow
def test_the_api_speaks_tls_and_nothing_else(parts: Parts, tmp_path: Path) -> None:
    pem = str(self_signed(tmp_path / "tls.pem"))
    settings = replace(parts.settings, transport=TransportSettings(tls_certificate=pem, tls_key=pem))
    config = _http(create_app(parts), settings)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        trusting = ssl.create_default_context(cafile=pem)
        trusting.check_hostname = False
        assert httpx.get(f"https://127.0.0.1:{port}/healthz", verify=trusting, timeout=60).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE"):
            httpx.get(f"https://127.0.0.1:{port}/healthz", timeout=60)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60)
    finally:
        server.should_exit = True
        thread.join(10)
