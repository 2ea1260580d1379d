"""What lies between a caller and Lethe: proxies and certificates of the environment, told in a sentence."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lethe.client import Client
from lethe.transport import LetheProblem, open_http
from tests.lethe.flaky import Reply, flaky
from tests.workers.test_courier import self_signed

PROXIES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"ALL_PROXY": "socks5://u:secret@127.0.0.1:1"}, r"pip install 'httpx\[socks\]'"),
        ({"HTTP_PROXY": "ftp://u:secret@127.0.0.1:1"}, "cannot be used"),
        ({"HTTP_PROXY": "http://u:secret@127.0.0.1:x"}, "cannot be used"),
        ({"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "[::1"}, "cannot be used"),
        ({"SSL_CERT_FILE": "/none/secret.pem"}, "SSL_CERT_FILE"),
        ({"SSL_CERT_FILE": __file__}, "SSL_CERT_FILE"),
    ],
)
def test_a_variable_that_cannot_be_used_is_told_without_its_value(
    named: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LetheProblem, match=words) as refused:
        open_http("https://lethe.invalid", "key")
    assert "secret" not in str(refused.value)


@contextlib.contextmanager
def speaking_tls(pem: Path) -> Iterator[tuple[str, list[int]]]:
    """(URL, one item a caller) of a port that shows this certificate and says nothing more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listening, callers = socket.create_server(("127.0.0.1", 0)), []

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                callers.append(1)
                with connection, contextlib.suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}", callers
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        listening.close()
    assert not thread.is_alive()


def refused_for(url: str) -> str:
    with Client(url) as client, pytest.raises(LetheProblem) as refused:
        client.ready()
    return refused.value.detail


def test_a_certificate_that_nobody_vouches_for_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking again would not help, and that Lethe runs is not the question."""
    pem = self_signed(tmp_path / "tls.pem")
    with speaking_tls(pem) as (url, callers):
        told = refused_for(url)
        assert told.startswith(f"The certificate of {url} is not trusted here (self")
        assert callers == [1]
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))  # the remedy, on this machine too: then the name alone is wrong
        assert "mismatch" in refused_for(url)


def test_tls_with_who_speaks_in_the_clear_is_told_at_once() -> None:
    with flaky(lambda *_: Reply(400)) as server:
        told = refused_for(server.url.replace("http://", "https://"))
    assert told.endswith("(wrong version number). If Lethe is there, perhaps it speaks http://.")
