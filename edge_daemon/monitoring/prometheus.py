"""How the daemon is, as Prometheus' metrics. Needs prometheus-client, the extra `metrics`.

Names and units follow Prometheus' conventions: base units, and `_total` on what only counts up.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from wsgiref.types import WSGIApplication

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from edge_daemon.monitoring.hardware import Throttling
from edge_daemon.monitoring.health import Health
from edge_daemon.records import SourceState
from edge_daemon.schema import HealthMessage, SpoolMessage

PREFIX: Final = "edge_daemon_"


def metrics_app(health: Health) -> WSGIApplication:
    """A WSGI application that answers each request with the figures of its moment."""
    registry = CollectorRegistry()
    registry.register(HealthCollector(health))
    ProcessCollector(registry=registry)  # processor time, memory and open files
    return make_wsgi_app(registry)


class HealthCollector(Collector):
    """Asks for the daemon's health at every scrape."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        message = self._health.message()
        identity = {"version": message.version, "bundle_id": message.bundle_id}
        yield InfoMetricFamily("edge_daemon", "The program and its models.", identity)
        yield _gauge("uptime_seconds", "Since the start.", message.uptime_s)
        yield _enum("source_state", "Whether frames come.", "state", SourceState, message.source)
        yield _counter("frames", "Frames that the source gave.", self._health.pace.frames)
        yield _dropped(message.dropped)
        yield self._latency(message)
        yield _gauge("members", "Models of the ensemble.", message.members_total)
        yield _gauge("members_active", "Models asked at present.", message.members_active)
        help_text = "Frames from one detection to the next."
        yield _gauge("detection_every", help_text, message.detection_every)
        yield from _board(message)
        yield _counter("broker_reconnects", "Connections after the first.", message.reconnects)
        yield from _spool(message.spool)

    def _latency(self, message: HealthMessage) -> Metric:
        """A summary: quantiles of the last minute, sum and count since the start."""
        pace, name = self._health.pace, f"{PREFIX}latency_seconds"
        help_text = "From a frame's capture until its result may be published."
        summary = SummaryMetricFamily(name, help_text, pace.results, pace.seconds_late)
        if (latency := message.latency_ms) is not None:
            summary.add_sample(name, {"quantile": "0.5"}, latency.p50 / 1000)
            summary.add_sample(name, {"quantile": "0.95"}, latency.p95 / 1000)
        return summary


def _board(message: HealthMessage) -> Iterator[Metric]:
    """What the machine tells; nothing where it is silent."""
    if message.cpu_temperature_c is not None:
        yield _gauge("cpu_temperature_celsius", "Of the CPU.", message.cpu_temperature_c)
    if message.throttled is not None:
        names = [str(flag.name).lower() for flag in Throttling]
        help_text = "Whether the firmware holds the CPU back now."
        yield _enum("throttled", help_text, "reason", names, *message.throttled)


def _spool(spool: SpoolMessage) -> Iterator[Metric]:
    yield _gauge("spool_events", "Events that the broker has not acknowledged.", spool.depth)
    yield _gauge("spool_oldest_age_seconds", "Age of the oldest of them.", spool.oldest_age_s)
    yield _counter("spool_dropped", "Events lost to the spool's limits.", spool.dropped)
    yield _gauge("spool_durable", "Whether they are on disk.", spool.durable)


def _dropped(counts: Mapping[str, int]) -> Metric:
    help_text = "Frames that a stage left out, and messages that were never sent."
    metric = CounterMetricFamily(f"{PREFIX}dropped", help_text, labels=["stage"])
    for stage, count in counts.items():
        metric.add_metric([stage], count)
    return metric


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, help_text, value)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, help_text, value)


def _enum(name: str, help_text: str, label: str, possible: Iterable[str], *actual: str) -> Metric:
    """One gauge for each possible value: 1 for what is so, 0 for the rest."""
    metric = GaugeMetricFamily(PREFIX + name, help_text, labels=[label])
    for value in possible:
        metric.add_metric([value], value in actual)
    return metric
