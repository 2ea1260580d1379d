"""A proxy in front of a real object store that spoils what a script says: refusals, silence, damaged answers."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length"})


@dataclass(frozen=True)
class Call:
    """One call as it arrived; `number` counts those of the same method from 0."""

    method: str
    path: str
    number: int
    headers: dict[str, str]


@dataclass(frozen=True)
class Fault:
    """What happens to a call.

    `status` and `code`: refused, and never passed on. Otherwise it is done, and of the answer `cut_at` bytes of the
    body come, or byte `flip_at` is another, or (`lost`) nothing comes. `silent`: nothing is done, and nothing comes
    until the caller gives up.
    """

    status: int = 0
    code: str = "InternalError"
    cut_at: int | None = None
    flip_at: int | None = None
    lost: bool = False
    silent: bool = False


Script = Callable[[Call], Fault | None]


@dataclass
class Proxy:
    url: str
    calls: list[Call] = field(default_factory=list)

    def count(self, method: str) -> int:
        return sum(call.method == method for call in self.calls)


@contextmanager
def faulty(upstream: str, script: Script) -> Iterator[Proxy]:  # noqa: C901 - a handler and its server
    """The proxy's address and what came through it."""
    proxy, lock, ended = Proxy(""), threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                call = Call(self.command, self.path, proxy.count(self.command), dict(self.headers))
                proxy.calls.append(call)
            fault = script(call) or Fault()
            if fault.silent:
                ended.wait()
                self.close_connection = True
            elif fault.status:
                text = f"<Error><Code>{fault.code}</Code><Message>scripted</Message></Error>".encode()
                self.say(fault.status, {"Content-Type": "application/xml"}, text, None)
            else:
                self.pass_on(body, fault)

        def pass_on(self, body: bytes, fault: Fault) -> None:
            connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            data = bytearray(response.read())
            if fault.flip_at is not None:
                data[fault.flip_at] ^= 1
            headers = {name: value for name, value in response.getheaders() if name.lower() not in HOP}
            length = response.getheader("Content-Length") if self.command == "HEAD" else None
            connection.close()
            if fault.lost:
                self.close_connection = True
            else:
                self.say(response.status, headers, bytes(data), fault.cut_at, length)

        def say(
            self, status: int, headers: dict[str, str], body: bytes, cut_at: int | None, length: str | None = None
        ) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body if cut_at is None else body[:cut_at])
            self.close_connection = self.close_connection or cut_at is not None

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Nothing: the calls are recorded."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        yield proxy
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
