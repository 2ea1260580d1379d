"""Metrics for Prometheus. Counts of rows are read from the database when they are asked for, so that any replica gives
the same (counts of all rows there ever were, at most every TOTALS_SECONDS); calls are counted in this process. No label
names a tenant, a model or an id.
"""

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from records import gauges
from records.database import Database, DatabaseTrouble
from records.gauges import Gauges, Totals
from records.spreads import BUCKETS_SECONDS, Spread

TOTALS_SECONDS = 60.0
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """One registry for one application."""

    def __init__(self, database: Database, folder: Path) -> None:
        """`folder` is on the disk whose free space is told."""
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._calls = Counter("lethe_http_calls", "Calls answered.", labels, registry=self.registry)
        self._seconds = Histogram(
            "lethe_http_seconds", "Time to answer.", ("method", "route"), buckets=SECONDS, registry=self.registry
        )
        self.registry.register(_Rows(database))
        self.registry.register(_Disk(folder))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one call."""
        self._calls.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def page(self) -> bytes:
        return generate_latest(self.registry)


class _Rows(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database
        self._totals: Totals | None = None
        self._totals_at = 0.0
        self._counting = threading.Lock()

    def describe(self) -> Iterator[Metric]:
        """Nothing: so that registering asks the database nothing."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """One family alone when the database is away: what this process counts is still told."""
        answers = GaugeMetricFamily("lethe_database_answers", "1 if the database could be asked just now.")
        try:
            with self._database.reading() as session:
                found, totals = gauges.read(session), self._counted(session)
        except DatabaseTrouble as error:
            structlog.get_logger("lethe.health").warning("metrics.no_rows", error=type(error).__name__)
            answers.add_metric((), 0)
            yield answers
            return
        answers.add_metric((), 1)
        yield answers
        yield from _work(found)
        yield from _times(found)
        yield from _people(found)
        yield from _messages(found)
        yield from _ever(totals)

    def _counted(self, session: Session) -> Totals:
        """Counted anew every TOTALS_SECONDS, by one of those who ask; the rest wait for it."""
        with self._counting:
            if self._totals is None or time.monotonic() - self._totals_at > TOTALS_SECONDS:
                self._totals = gauges.totals(session)
                self._totals_at = time.monotonic()
            return self._totals


class _Disk(Collector):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        free_bytes = shutil.disk_usage(self._folder).free
        yield GaugeMetricFamily("lethe_disk_free_bytes", "Room on the data folder's disk.", free_bytes)


def _work(found: Gauges) -> Iterator[Metric]:
    yield _counts("lethe_jobs_waiting", "Queued jobs by what they need.", "needs", found.jobs_waiting)
    yield _age("lethe_queue_oldest_seconds", "Age of the oldest queued job.", found.oldest_queued_at)
    yield GaugeMetricFamily("lethe_models", "Models.", found.models)
    yield GaugeMetricFamily("lethe_models_held", "Models whose lease a worker holds.", found.models_held)
    yield GaugeMetricFamily("lethe_leases_expired", "Models whose worker died holding them.", found.leases_expired)
    events = CounterMetricFamily("lethe_events", "What went another way than planned, and hints.", labels=("event",))
    for event, count in sorted(found.events.items()):
        events.add_metric((event,), count)
    yield events


def _times(found: Gauges) -> Iterator[Metric]:
    wait = HistogramMetricFamily("lethe_job_wait_seconds", "From queueing a job to its first start.")
    run = HistogramMetricFamily("lethe_job_run_seconds", "From a job's first start to its end.")
    stages = HistogramMetricFamily("lethe_stage_seconds", "Of each stage of each attempt.", labels=("stage",))
    _add(wait, (), found.job_wait)
    _add(run, (), found.job_run)
    for stage, spread in sorted(found.stages.items()):
        _add(stages, (stage,), spread)
    yield from (wait, run, stages)
    yield _counts(
        "lethe_gpu_peak_bytes", "The most of a GPU that a stage took in a day.", "stage", found.gpu_peak_bytes
    )


def _people(found: Gauges) -> Iterator[Metric]:
    yield GaugeMetricFamily("lethe_requests_overdue", "Unfinished requests past due.", found.overdue_requests)
    left = GaugeMetricFamily("lethe_deadline_seconds", "To the nearest deadline; absent when nothing is due.")
    if found.next_due_at is not None:
        left.add_metric((), found.next_due_at.timestamp() - time.time())
    yield left
    yield _age("lethe_review_oldest_seconds", "Age of the oldest verdict asked of a person.", found.oldest_review_at)


def _messages(found: Gauges) -> Iterator[Metric]:
    yield GaugeMetricFamily("lethe_outbox_waiting", "Messages not sent yet.", found.outbox_waiting)
    yield GaugeMetricFamily("lethe_deliveries_waiting", "Webhook deliveries not over.", found.deliveries_waiting)
    yield _age("lethe_delivery_oldest_seconds", "Age of the oldest delivery not over.", found.oldest_delivery_at)
    yield GaugeMetricFamily("lethe_webhooks_disabled", "Endpoints that are told nothing.", found.webhooks_disabled)
    yield GaugeMetricFamily("lethe_audit_entries", "Entries of the audit log.", found.audit_entries)


def _ever(totals: Totals) -> Iterator[Metric]:
    yield _counts("lethe_requests", "Erasure requests.", "state", totals.requests)
    yield _counts("lethe_jobs", "Jobs.", "state", totals.jobs)
    yield GaugeMetricFamily("lethe_job_restarts", "Starts of jobs beyond their first.", totals.job_restarts)
    attempts = GaugeMetricFamily("lethe_attempts", "Finished attempts.", labels=("method", "verdict"))
    for labels, count in sorted(totals.attempts.items()):
        attempts.add_metric(labels, count)
    yield attempts
    yield _counts("lethe_versions", "Versions.", "state", totals.versions)
    yield GaugeMetricFamily("lethe_versions_bytes", "Of versions not purged, as their rows say.", totals.version_bytes)


def _counts(name: str, words: str, label: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=(label,))
    for value, count in sorted(counts.items()):
        family.add_metric((value,), count)
    return family


def _age(name: str, words: str, since: datetime | None) -> GaugeMetricFamily:
    """0 when there is nothing."""
    return GaugeMetricFamily(name, words, max(0.0, time.time() - since.timestamp()) if since else 0.0)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], spread: Spread) -> None:
    buckets = [(str(most), float(count)) for most, count in zip(BUCKETS_SECONDS, spread.at_most, strict=True)]
    family.add_metric(labels, [*buckets, ("+Inf", float(spread.count))], spread.sum_seconds)
