"""The API under a certificate: who trusts it is answered, and who speaks in the clear is not."""

import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn

from lethe.embedded import Address, _http, serve, serve_api
from records.errors import Invalid
from records.parts import Parts, Settings
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


@pytest.mark.parametrize("start", [serve, serve_api])
@pytest.mark.parametrize("broken", ["no PEM", "another's key"])
def test_nobody_starts_with_a_certificate_that_cannot_be_used(
    start: Callable[[Settings, Address], None], broken: str, parts: Parts, tmp_path: Path
) -> None:
    pem, key = self_signed(tmp_path / "tls.pem"), tmp_path / "other.pem"
    if broken == "no PEM":
        key.write_text("secret words")
    else:
        self_signed(key)
    transport = TransportSettings(tls_certificate=str(pem), tls_key=str(key))
    with pytest.raises(Invalid, match="LETHE_TLS_CERTIFICATE and LETHE_TLS_KEY cannot be used") as refused:
        start(replace(parts.settings, transport=transport), Address(port=0))
    assert "secret words" not in refused.value.detail
