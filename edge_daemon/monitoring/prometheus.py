"""Metrics for Prometheus, served over HTTP. Needs the extra `metrics`.

Names and units follow Prometheus' conventions: base units, and `_total` on counters.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, make_asgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from edge_daemon._lib.http_server import (
    ASGIApp,
    ASGIMessage,
    ConnectionLimits,
    HttpServer,
    Receive,
    Send,
)
from edge_daemon._lib.text import authority
from edge_daemon.monitoring.hardware import Throttling
from edge_daemon.monitoring.health import Health
from edge_daemon.monitoring.statistics import BUCKET_BOUNDS_S, Histogram
from edge_daemon.pipeline import Busy, Service
from edge_daemon.records import EMOTIONS, EventKind, SourceState
from edge_daemon.schema import EventQueueStatus, HealthMessage

logger = logging.getLogger(__name__)

PREFIX: Final = "edge_daemon_"

LIMITS: Final = ConnectionLimits(total=16, per_address=8)


class MetricsServer(Service):
    """The service that answers scrapes.

    Args:
        health: source of the figures.
        listener: a listening socket; closed at the end.
        include_emotions: whether to export results: faces by emotion, and events.
    """

    name = "metrics"
    is_hang_fatal = False
    is_failure_fatal = False

    def __init__(self, health: Health, listener: socket.socket, *, include_emotions: bool) -> None:
        registry = CollectorRegistry()
        registry.register(HealthCollector(health, include_emotions=include_emotions))
        ProcessCollector(registry=registry)  # CPU time, memory, open files
        self._listener = listener
        app = _only_get(make_asgi_app(registry))
        self._http = HttpServer(app, listener, LIMITS, websockets=False)

    def run(self, busy: Busy) -> None:
        """Serve until `stop` is called."""
        logger.info(
            "serving metrics", extra={"address": authority(self._listener.getsockname()[:2])}
        )
        asyncio.run(self._http.serve(busy))

    def stop(self) -> None:
        """End `run` soon."""
        self._http.stop()


def _only_get(app: ASGIApp) -> ASGIApp:
    """The application for requests that only read; header fields beyond ASCII are ignored."""

    async def wrapped(scope: ASGIMessage, receive: Receive, send: Send) -> None:
        if scope["method"] in {"GET", "HEAD"}:
            # The application decodes them, and would raise.
            decodable = [(name, value) for name, value in scope["headers"] if value.isascii()]
            await app({**scope, "headers": decodable}, receive, send)
            return
        headers = [(b"allow", b"GET, HEAD"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 405, "headers": headers})
        await send({"type": "http.response.body"})

    return wrapped


class HealthCollector(Collector):
    """Reads the daemon's health at every scrape.

    Args:
        health: source of the figures.
        include_emotions: whether to export faces by emotion, and events.
    """

    def __init__(self, health: Health, *, include_emotions: bool = False) -> None:
        self._health = health
        self._include_emotions = include_emotions

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        message = self._health.message()
        yield from _pipeline(message, self._health)
        yield from _hardware(message)
        yield from _broker(message, self._health)
        yield from _event_queue(message.event_queue)
        if self._include_emotions:
            yield from _emotions(self._health)


def _pipeline(message: HealthMessage, health: Health) -> Iterator[Metric]:
    identity = {"version": message.version, "bundle_id": message.bundle_id}
    yield InfoMetricFamily("edge_daemon", "Versions of the daemon and its models.", identity)
    yield _gauge("uptime_seconds", "Time since the start.", message.uptime_s)
    yield _enum("source_state", "State of the source.", "state", SourceState, message.source)
    yield _counter("frames", "Frames from the source.", health.throughput.frames)
    help_text = "Frames that a stage dropped."
    yield _labelled_counter("frames_dropped", help_text, "stage", health.dropped_frames)
    latency = health.throughput.latency_histogram()
    yield _histograms("latency_seconds", "Time from capture to result.", {"": latency})
    help_text = "Time that a stage works on a frame."
    yield _histograms("stage_duration_seconds", help_text, health.timings.histograms(), "stage")
    yield _gauge("members", "Members of the ensemble.", message.members_total)
    yield _gauge("members_active", "Members of the ensemble in use.", message.members_active)
    help_text = "Frames from one detection to the next."
    yield _gauge("detection_interval_frames", help_text, message.detection_interval)


def _hardware(message: HealthMessage) -> Iterator[Metric]:
    """Sensors of the machine; none where it has none."""
    if message.cpu_temperature_c is not None:
        yield _gauge("cpu_temperature_celsius", "CPU temperature.", message.cpu_temperature_c)
    if message.throttled is not None:
        names = [str(flag.name).lower() for flag in Throttling]
        help_text = "Whether the firmware throttles the CPU now."
        yield _enum("throttled", help_text, "reason", names, *message.throttled)


def _broker(message: HealthMessage, health: Health) -> Iterator[Metric]:
    if health.connected is not None:
        yield _gauge("broker_connected", "Whether the broker is connected.", health.connected)
    yield _counter("broker_reconnects", "Reconnects to the broker.", message.reconnects)
    yield _counter(
        "messages_dropped", "MQTT messages that were never sent.", health.dropped_messages
    )


def _event_queue(queue: EventQueueStatus) -> Iterator[Metric]:
    yield _gauge("event_queue_events", "Events that the broker has not acknowledged.", queue.depth)
    yield _gauge(
        "event_queue_oldest_age_seconds", "Age of the oldest queued event.", queue.oldest_age_s
    )
    yield _counter(
        "event_queue_dropped",
        "Events dropped: over the limits of number and age, refused, or too large.",
        queue.dropped,
    )
    yield _gauge("event_queue_durable", "Whether queued events are on disk.", queue.durable)


def _emotions(health: Health) -> Iterator[Metric]:
    faces = GaugeMetricFamily(f"{PREFIX}faces", "Faces in sight.", labels=["emotion"])
    for emotion in (*EMOTIONS, "none"):
        faces.add_metric([emotion], health.faces.get(emotion, 0))
    yield faces
    totals = {emotion: health.faces_total.get(emotion, 0) for emotion in (*EMOTIONS, "none")}
    yield _labelled_counter("faces_observed", "Faces in all results.", "emotion", totals)
    events = {str(kind): health.events_total.get(kind, 0) for kind in EventKind}
    yield _labelled_counter("events", "Events.", "kind", events)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, help_text, value)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, help_text, value)


def _labelled_counter(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = CounterMetricFamily(PREFIX + name, help_text, labels=[label])
    for value, count in values.items():
        metric.add_metric([value], count)
    return metric


def _histograms(
    name: str, help_text: str, histograms: Mapping[str, Histogram], label: str | None = None
) -> Metric:
    metric = HistogramMetricFamily(PREFIX + name, help_text, labels=[label] if label else None)
    bounds = [*map(str, BUCKET_BOUNDS_S), "+Inf"]
    for value, histogram in histograms.items():
        buckets = list(zip(bounds, itertools.accumulate(histogram.counts), strict=True))
        metric.add_metric([value] if label else [], buckets, histogram.sum_s)
    return metric


def _enum(name: str, help_text: str, label: str, values: Iterable[str], *current: str) -> Metric:
    """One gauge per value: 1 for the current ones, 0 for the others."""
    metric = GaugeMetricFamily(PREFIX + name, help_text, labels=[label])
    for value in values:
        metric.add_metric([value], value in current)
    return metric
