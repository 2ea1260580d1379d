"""Traces for OpenTelemetry, from the call that asks for something to the version that is published.

Off, and without cost, unless the environment names a collector. A span's name is a word of the code or the template of
a route; its attributes are ids and counts; of an exception it tells the class. Spans go out from a thread of their own
over a bounded queue: a collector that is away costs spans and nothing else.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from records.errors import Invalid

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_SECONDS = 2.0
Attributes = Mapping[str, str | int | float]

_provider: Any = None


@dataclass(frozen=True)
class Span:
    """An open span, or nothing when nobody collects."""

    opened: Any = None

    def tell(self, attributes: Attributes, name: str | None = None) -> None:
        """Add attributes, and another name if the first was a guess."""
        if self.opened is not None:
            self.opened.set_attributes(dict(attributes))
            if name:
                self.opened.update_name(name)


def start(service: str) -> None:
    """Send what this process does to the collector that the environment names, as `service` unless OTEL_SERVICE_NAME
    says otherwise. Raises Invalid when a collector is named and the packages are missing.
    """
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(os.environ.get(name) for name in ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise Invalid(
            f"{ENDPOINTS[0]} asks for traces, whose packages are missing. Run: pip install 'lethe[otel]'"
        ) from None
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or service})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)


def use(provider: Any) -> None:
    """Hand every later span to this provider of the SDK; None to no one. It is ours alone: libraries do not see it."""
    global _provider  # noqa: PLW0603 - one per process, as with logging
    _provider = provider


def stop() -> None:
    """Send what is left, for as long as FLUSH_SECONDS."""
    provider = _provider
    if provider is not None:
        use(None)
        last = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(FLUSH_SECONDS)


@contextmanager
def span(
    name: str, attributes: Attributes | None = None, parent: str | None = None, *, serves: bool = False
) -> Iterator[Span]:
    """What is done inside is part of span `name`: below `parent` (a W3C traceparent), or else below the present one.

    `serves` marks the answer to somebody else's call.
    """
    if _provider is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind, Status, StatusCode

    kind = SpanKind.SERVER if serves else SpanKind.INTERNAL
    said = {"record_exception": False, "set_status_on_exception": False}  # its text may quote data
    with _tracer().start_as_current_span(name, _below(parent), kind, dict(attributes or {}), **said) as opened:
        try:
            yield Span(opened)
        except BaseException as error:
            opened.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def past(name: str, seconds: float, attributes: Attributes | None = None, parent: str | None = None) -> None:
    """A span that ends now and began `seconds` ago."""
    if _provider is not None:
        now_ns = time.time_ns()
        began_ns = now_ns - int(seconds * 1e9)
        _tracer().start_span(name, _below(parent), attributes=dict(attributes or {}), start_time=began_ns).end(now_ns)


def here() -> str | None:
    """The present span as a W3C traceparent, for whoever goes on with the work elsewhere; None when there is none."""
    if _provider is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _tracer() -> Any:
    return _provider.get_tracer("lethe")


def _below(parent: str | None) -> Any:
    """The context of a traceparent; the present one for None; a fresh one for what is no traceparent."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent}, Context()) if parent else None
