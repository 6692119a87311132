"""Metrics for Prometheus: requests and latency, the version, and the age of build and data."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bought_together.export.read import data_age
from bought_together.service.backends import Backend

# In seconds; an answer from memory takes less than one millisecond.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)


class Metrics:
    """The counters of one application."""

    def __init__(self, backend: Backend) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(DataCollector(backend))
        self.requests = Counter(
            "bought_together_requests",
            "Requests answered, by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "bought_together_request_seconds",
            "Seconds from a request to the end of its answer, by route.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )

    @cache  # noqa: B019  (a handful of routes and statuses; looking a label up costs more)
    def series(self, route: str, status: int) -> tuple[Counter, Histogram]:
        return self.requests.labels(route, str(status)), self.latency.labels(route)

    def count(self, route: str, status: int) -> None:
        self.requests.labels(route, str(status)).inc()

    def observe(self, route: str, status: int, seconds: float) -> None:
        requests, latency = self.series(route, status)
        requests.inc()
        latency.observe(seconds)


class DataCollector(Collector):
    """Reports the current version when Prometheus asks; nothing while there is none."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def collect(self) -> Iterator[GaugeMetricFamily]:
        version = self.backend.current
        if version is None:
            return
        info = GaugeMetricFamily(
            "bought_together_version_info", "1 for the version that is served.", labels=["version"]
        )
        info.add_metric([version.name], 1)
        yield info
        yield GaugeMetricFamily(
            "bought_together_build_age_seconds",
            "Seconds since the start of the build that is served.",
            value=(datetime.now(UTC) - version.built_at).total_seconds(),
        )
        age = GaugeMetricFamily(
            "bought_together_data_age_seconds",
            "Seconds since the newest date of the data; no value for data without dates.",
        )
        if (seconds := data_age(version.newest_ordered_at)) is not None:
            age.add_metric([], seconds)
        yield age
        yield GaugeMetricFamily(
            "bought_together_products",
            "Products that have an answer.",
            value=len(version.catalogue),
        )
