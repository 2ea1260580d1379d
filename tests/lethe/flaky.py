"""A small real HTTP server whose answers are scripted: it drops connections, cuts files short, refuses for a while."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Call:
    """One call as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """What to answer. `cut_at` bytes of the body are sent, then the connection is dropped; None sends all.

    `drops` answers nothing at all. `held` keeps what follows `cut_at` back until it is set.
    """

    status: int = 200
    body: bytes = b'{"object": "any"}'
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    drops: bool = False
    held: threading.Event | None = None


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is no error here, and no line of what the command under test prints."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


Script = Callable[[Call, int], Reply]
"""(call, how many calls came before it) -> what to answer."""


@dataclass
class Flaky:
    url: str
    calls: list[Call]


@contextmanager
def flaky(script: Script) -> Iterator[Flaky]:
    calls: list[Call] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self.read_chunks()
            call = Call(self.command, self.path, dict(self.headers), body)
            with lock:
                reply = script(call, len(calls))
                calls.append(call)
            if reply.drops:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body if reply.cut_at is None else reply.body[: reply.cut_at])
            if reply.held is not None:
                reply.held.wait(30)
            self.close_connection = self.close_connection or reply.cut_at is not None

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names

        def read_chunks(self) -> bytes:
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Nothing: the calls are recorded."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Flaky(f"http://127.0.0.1:{server.server_port}", calls)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
