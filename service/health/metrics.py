"""Metrics for Prometheus. Counts of rows are read from the database when they are asked for, so that any replica gives
the same; calls are counted in this process. No label names a tenant, a model or an id.
"""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from records import gauges
from records.database import Database

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """One registry for one application."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._calls = Counter("lethe_http_calls", "Calls answered.", labels, registry=self.registry)
        self._seconds = Histogram(
            "lethe_http_seconds", "Time to answer.", ("method", "route"), buckets=SECONDS, registry=self.registry
        )
        self.registry.register(_Rows(database))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one call."""
        self._calls.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def page(self) -> bytes:
        return generate_latest(self.registry)


class _Rows(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: so that registering asks the database nothing."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._database.reading() as session:
            found = gauges.read(session)
        yield _by_state("lethe_requests", "Erasure requests.", found.requests)
        yield _by_state("lethe_jobs", "Jobs.", found.jobs)
        yield _by_state("lethe_versions", "Versions.", found.versions)
        waiting = found.oldest_queued_at
        oldest_seconds = max(0.0, time.time() - waiting.timestamp()) if waiting else 0.0
        yield GaugeMetricFamily("lethe_queue_oldest_seconds", "Age of the oldest queued job.", oldest_seconds)
        yield GaugeMetricFamily("lethe_requests_overdue", "Unfinished requests past due.", found.overdue_requests)
        yield GaugeMetricFamily("lethe_models", "Models.", found.models)
        yield GaugeMetricFamily("lethe_models_held", "Models whose lease a worker holds.", found.models_held)
        yield GaugeMetricFamily("lethe_outbox_waiting", "Messages not sent yet.", found.outbox_waiting)
        yield GaugeMetricFamily("lethe_audit_entries", "Entries of the audit log.", found.audit_entries)


def _by_state(name: str, words: str, counts: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=("state",))
    for state, count in sorted(counts.items()):
        family.add_metric((state,), count)
    return family
