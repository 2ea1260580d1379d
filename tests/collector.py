"""A collector of traces on loopback: what OTLP over HTTP brings, as it came and read."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Told:
    """One span."""

    service: str
    scope: str
    name: str
    trace: str
    id: str
    parent: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    """`bodies` are the bytes that came; a `deaf` one takes connections and never answers."""

    url: str = ""
    deaf: bool = False
    paths: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> list[Told]:
        return [span for body in list(self.bodies) for span in _spans(body)]

    def named(self, name: str) -> list[Told]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def collecting(deaf: bool = False) -> Iterator[Collector]:
    collector, over = Collector(deaf=deaf), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.paths.append(self.path)
            collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            if collector.deaf:
                over.wait(60)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        over.set()
        server.shutdown()
        server.server_close()


def _spans(body: bytes) -> Iterator[Told]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        (service,) = [one.value.string_value for one in resource.resource.attributes if one.key == "service.name"]
        for scope in resource.scope_spans:
            for one in scope.spans:
                said = {each.key: _value(each.value) for each in one.attributes}
                ids = (one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex())
                times = (one.start_time_unix_nano, one.end_time_unix_nano)
                failed = one.status.code == one.status.STATUS_CODE_ERROR
                yield Told(service, scope.scope.name, one.name, *ids, *times, said, failed)


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))
